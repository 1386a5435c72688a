"""Failures of restores, of their undo, and of dumps that dbctl did not create."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class UndoMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "cannot undo a restore of {app}: no safety backup of a restore in {place}"
    remedy = "{hint}"
    default_hint = "List backups with: `backup list`"


class NothingToUndoError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "no restore of {target} to undo: {reason}"
    remedy = "Nothing was changed. {hint}"


class RetainedDatabaseMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "{target}: the retained database {name} does not exist"
    remedy = "Nothing was changed. The restore ended before it, or it was dropped. Restore a backup with: `restore apply ID`"


class RolesMissingError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: the backup names {roles} that the server lacks: {names}"
    remedy = (
        "Nothing was changed. Create them with --roles create, leave out their grants and ownership with"
        " --roles skip, or replace one with --roles NAME=EXISTING."
    )


class RoleReplacementInvalidError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "{target}: --roles {name}={replacement}: {reason}"
    remedy = "Nothing was changed. List the roles of a backup with: `backup show ID`"


class RowsLeftOutError(DbctlError, status=Exit.REFUSED):
    sentence = "backup {id} has no rows of {tables}: schema_only left them out"
    remedy = "Nothing was changed. Choose a backup that has them; find it with: `backup list`"


class ForeignDumpRefusedError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: a foreign dump is only loaded by a temporary role, but {reason}"
    remedy = "Nothing was run. {hint}"


class DumpOverreachesError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{target}: the dump requires rights outside its own database: {reason}"
    remedy = "The temporary role denied it; nothing outside the temporary database was changed. Check the dump. {hint}"


class TablesLostError(DbctlError, status=Exit.REFUSED):
    sentence = "{dump} lacks tables of {target}, which the restore would drop: {tables}"
    remedy = (
        "Nothing was changed. Restore rows of one table with --table NAME --merge missing, create a copy with --to URL,"
        " or drop these tables with --replace."
    )


class UnrecoverableError(DbctlError, status=Exit.CHECK_FAILED):
    sentence, remedy = "cannot salvage any row of {target}: {reason}", "{hint}"


class RestoreFailedError(DbctlError, status=Exit.FAILED):
    sentence = "restore of {target} failed: {reason}"
    remedy = "Nothing was changed. {hint}"


class TableNotRestoredError(DbctlError, status=Exit.REFUSED):
    sentence = "cannot restore rows of {id} into {table} of {target}: {reason}"
    remedy = "Nothing was changed. {hint}"


class RestorePartialError(DbctlError, status=Exit.PARTIAL):
    sentence = "{app}: restored {done}; {database} failed ({reason}) and rollback failed: {rollback_error}"
    remedy = "{hint}"


class CopyPartialError(DbctlError, status=Exit.PARTIAL):
    """Context: ``places``: the addresses of the copies that are in place, and ``revert_error``: why they remain."""

    sentence = (
        "{places}: replaced by the copy, and not reverted ({revert_error}), because {place} failed: {reason}"
    )
    remedy = (
        "The other destinations are unchanged. Repair the cause, and create all copies again, with --replace."
    )


class RestoreUnfinishedError(DbctlError, status=Exit.FAILED):
    sentence = "{target} may be only partially restored: {reason}"
    remedy = "The previous data is stored. Complete the restore by running it again, or return to the previous data with: `restore undo`"
