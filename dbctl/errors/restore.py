"""Failures of restores, of their undo, and of dumps that dbctl did not make."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class UndoMissingError(DbctlError):
    code, exit_status = "undo-missing", Exit.NOT_FOUND
    sentence = "no restore of {app} can be undone: {place} holds no safety backup"
    remedy = "dbctl backup list shows what it holds."


class UndoNothingError(DbctlError):
    code, exit_status = "undo-nothing", Exit.NOT_FOUND
    sentence = "the last restore of {target} ({id}) found no database there, so there is none to go back to"
    remedy = (
        "Nothing was changed. dbctl backup list shows older ones; dbctl restore apply ID brings one back."
    )


class UndoNeedlessError(DbctlError):
    code, exit_status = "undo-needless", Exit.NOT_FOUND
    sentence = "the last restore of {target} ({id}) was cut off before it replaced anything, and there was none before it"
    remedy = "Nothing was changed. What was there when it began is kept: dbctl restore apply {kept}"


class UndoneAlreadyError(DbctlError):
    code, exit_status = "undone-already", Exit.NOT_FOUND
    sentence = "the last restore was cut off and is undone: {target} is as it was before, and none came before that one"
    remedy = "Nothing was changed. What was there between, not all of one moment, is kept: dbctl restore apply {kept}"


class KeptMissingError(DbctlError):
    code, exit_status = "kept-missing", Exit.NOT_FOUND
    sentence = "{target}: {name}, which a restore was to keep, is not there: that restore did not come so far, or it is gone"
    remedy = (
        "Nothing was changed. dbctl backup list shows what there is; dbctl restore apply ID brings one back."
    )


class ForeignDumpRefusedError(DbctlError):
    code, exit_status = "foreign-dump-refused", Exit.REFUSED
    sentence = (
        "{target}: a dump that dbctl did not make is loaded only by a role created for it, and {reason}"
    )
    remedy = "Nothing was run. {instead}"


class DumpOverreachesError(DbctlError):
    code, exit_status = "dump-overreaches", Exit.UNSOUND
    sentence = "{target}: the dump asks for more than a database of its own: {reason}"
    remedy = "The scratch role refused it; nothing outside the scratch database was changed. {instead}"


class BackupPartialError(DbctlError):
    code, exit_status = "backup-partial", Exit.REFUSED
    sentence = (
        "backup {id} of {app} holds only some tables ({tables}), so no database can be restored from it"
    )
    remedy = "Nothing was changed. {instead}"


class TablesLostError(DbctlError):
    code, exit_status = "tables-lost", Exit.REFUSED
    sentence = "{dump} does not hold all tables of {target}, which the restore would drop: {tables}"
    remedy = (
        "Nothing was changed. If it is a dump of some tables: --table NAME --merge missing restores the rows of one,"
        " --to URL makes a copy beside. If it is a whole dump and these tables are to go: --replace."
    )


class RecoverHopelessError(DbctlError):
    code, exit_status = "recover-hopeless", Exit.UNSOUND
    sentence, remedy = "nothing of {target} can be recovered: {reason}", "{instead}"


class RestoreFailedError(DbctlError):
    code, exit_status = "restore-failed", Exit.FAILED
    sentence = "{target} was not restored: {reason}"
    remedy = "Nothing was changed. {instead}"


class TableNotRestoredError(DbctlError):
    code, exit_status = "table-not-restored", Exit.REFUSED
    sentence = "{table} of {target} cannot take the rows of {id}: {reason}"
    remedy = "Nothing was changed. {instead}"


class RestoreHalfError(DbctlError):
    code, exit_status = "restore-half", Exit.PARTIAL
    sentence = "{app}: restored {done}; {database} failed ({reason}), and so did the way back: {why}"
    remedy = "{kept}"


class RestoreUnfinishedError(DbctlError):
    code, exit_status = "restore-unfinished", Exit.FAILED
    sentence = "{target} may be neither what it was nor all that was to be restored: {reason}"
    remedy = "What it held is kept: dbctl restore undo goes back to it, and the restore again goes on."
