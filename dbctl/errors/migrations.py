"""Failures of migrations and of their ledgers."""

from __future__ import annotations

from pathlib import Path

from dbctl.errors.base import DbctlError, Exit


class MigrationsMissingError(DbctlError):
    code, exit_status = "migrations-missing", Exit.NOT_FOUND
    sentence = "{target} has no folder of migrations{place}"
    remedy = "Set [apps.NAME.migrations] in the configuration, or give --migrations DIR."

    def __init__(self, *, target: str, path: Path | None) -> None:
        """Name ``path``, the folder that is missing; None: nobody has named any."""
        super().__init__(target=target, path=path, place=f" ({path})" if path else "")


class MigrationMissingError(DbctlError):
    code, exit_status = "migration-missing", Exit.NOT_FOUND
    sentence, remedy = "{folder} has no migration {name!r}", "dbctl migrate status shows them.{near}"


class MigrationShapeUnknownError(DbctlError):
    code, exit_status = "migration-shape-unknown", Exit.NOT_FOUND
    sentence, remedy = "the migrations of {app} have no shape {name!r}", "Its shapes: {names}."


class MigrationsUnsoundError(DbctlError):
    code, exit_status = "migrations-unsound", Exit.REFUSED
    sentence = "{target}: the ledger names migrations that {folder} does not have ({names})"
    remedy = (
        "Nothing was run. Point [apps.NAME.migrations] at the folder of the deployed app, or give --migrations DIR."
        " If {folder} is a new folder, copy the files of these migrations into it; if they are lost, dbctl migrate repair"
        " --missing removes them from the ledger."
    )


class MigrationsAheadError(DbctlError):
    code, exit_status = "migrations-ahead", Exit.UNSOUND
    sentence = (
        "{target} is newer than the files in {folder}: its ledger names {names}, which come after all of them"
    )
    remedy = (
        "Nothing was run. Install the app's newer version, or point [apps.NAME.migrations] at its folder."
    )


class MigrationsTwinnedError(DbctlError):
    code, exit_status = "migrations-twinned", Exit.UNSOUND
    sentence = "{target}: {names} cannot be told from another migration, which has the same number"
    remedy = "Nothing was run. Give each a number of its own."


class LedgerForeignError(DbctlError):
    code, exit_status = "ledger-foreign", Exit.REFUSED
    sentence = "what {target} has had is recorded by {runner}, whose ledger dbctl reads and does not write"
    remedy = "Nothing was run. Let {runner} run it, or give the database a ledger that dbctl writes: dbctl migrate baseline."


class MigrationsOutOfOrderError(DbctlError):
    code, exit_status = "migrations-out-of-order", Exit.REFUSED
    sentence = "{target}: {names} would run after {newest}, which was applied already"
    remedy = "Nothing was run. Give them a number above the newest one."


class MigrationsShippedError(DbctlError):
    code, exit_status = "migrations-shipped", Exit.REFUSED
    sentence = "{target} uses the migrations shipped with dbctl, which take no new ones"
    remedy = "Nothing was changed. Set [apps.NAME.migrations] in the configuration, or give --migrations DIR."


class MigrationsUnfitError(DbctlError):
    code, exit_status = "migrations-unfit", Exit.REFUSED
    sentence = "the schema of {target} is not what migrations of {folder} make: {differences}"
    remedy = "Nothing was recorded. It may be of another shape of the app; --migrations names a folder that made it."


class MigrationShapeOtherError(DbctlError):
    code, exit_status = "migration-shape-other", Exit.REFUSED
    sentence = "{target} has the shape {found}, not {shape}"
    remedy = "Nothing was changed. Leave --variant away: what a database has tells which one it is."


class LedgerMissingError(DbctlError):
    code, exit_status = "ledger-missing", Exit.REFUSED
    sentence = "{target} holds tables but no ledger ({table}), so nothing tells which migrations it has had"
    remedy = "Nothing was run. dbctl migrate baseline makes a ledger that tells which ones the schema shows; or let the app itself record them."


class MigrationChangedError(DbctlError):
    code, exit_status = "migration-changed", Exit.UNSOUND
    sentence = "{target}: {names} changed after being applied"
    remedy = "Nothing was run. Put the old text back, or write the change as a new migration."


class MigrationBrokenError(DbctlError):
    code, exit_status = "migration-broken", Exit.REFUSED
    sentence = "{target}: {names} was begun by the app's own runner and did not come to its end"
    remedy = "Nothing was run. Look at what it left behind. Take that back, then dbctl migrate repair --failed; or complete it, then dbctl migrate mark NAME --applied."


class MigrationFailedError(DbctlError):
    code, exit_status = "migration-failed", Exit.FAILED
    sentence = "{target}: {name} failed{place}: {reason}"
    remedy = "{name} was rolled back whole. Done by this run: {applied}; not run: {pending}.{known}"


class MigrationHalfDoneError(MigrationFailedError):
    """Besides those of ``MigrationFailedError``: how far it came (``done``), and what a failed statement ``left``."""

    code, exit_status = "migration-half-done", Exit.FAILED
    remedy = "It was not one transaction: {done}, and that stays. Correct what follows in its file, not what has run: dbctl migrate {way} goes on there.{left} Done by this run: {applied}; not run: {pending}.{known}"


class MigrationInDoubtError(MigrationFailedError):
    code, exit_status = "migration-in-doubt", Exit.FAILED
    remedy = "Whether {name} stands is not known: once the cause is mended, dbctl migrate status tells. Done by this run before it: {applied}; not run: {pending}.{known}"


class RowsLostError(MigrationFailedError):
    code, exit_status = "rows-lost", Exit.REFUSED
    sentence = "{target}: {name} takes rows away without saying so: {losses}"
    remedy = "{undone} If that is meant, put a line -- dbctl: allow-data-loss above its first statement, or, where the file is not yours, give --allow-data-loss {name}. Done by this run: {applied}; not run: {pending}."


class MigrationUnknownError(DbctlError):
    code, exit_status = "migration-unknown", Exit.REFUSED
    sentence = "{target}: whether statement {number} of {name} has run is not known, for the run was killed meanwhile: {sql}"
    remedy = "Nothing was run. Look whether it was done, and record that: dbctl migrate repair --statement done, or undone."


class MigrationStepsChangedError(DbctlError):
    code, exit_status = "migration-steps-changed", Exit.UNSOUND
    sentence = "{target}: {name} is half done, and its statement {number}, which has run, is another one in the file now"
    remedy = "Nothing was run. Put back the text of what has run; what follows it may change."


class MigrationStepMissingError(DbctlError):
    code, exit_status = "migration-step-missing", Exit.NOT_FOUND
    sentence = "{target}: of no statement of {name} it is in doubt whether it has run"
    remedy = "dbctl migrate status shows how far it came."


class MigrationHalfBackError(DbctlError):
    code, exit_status = "migration-half-back", Exit.REFUSED
    sentence = "{target}: {name} is taken back in part"
    remedy = "Nothing was run. dbctl migrate down takes back the rest."


class DownAllRefusedError(DbctlError):
    code, exit_status = "down-all-refused", Exit.REFUSED
    sentence = "{app} is protected: its migrations are never all taken back at once"
    remedy = "Nothing was run. --steps N or --to NAME takes back the last ones."


class ResetRefusedError(DbctlError):
    code, exit_status = "reset-refused", Exit.REFUSED
    sentence = "{app} is protected: its databases are never reset"
    remedy = "Nothing was changed. migrate reset is for development databases."


class MigrationOneWayError(DbctlError):
    code, exit_status = "migration-one-way", Exit.REFUSED
    sentence = "{target}: {name} cannot be taken back: {reason}"
    remedy = "Nothing was run. Write what takes it back as a new migration, or restore a backup of before."


class RehearsalFailedError(DbctlError):
    """What ``up`` would tell (``told``), of a copy."""

    code, exit_status = "rehearsal-failed", Exit.FAILED
    sentence = "rehearsed on a copy, {told}"
    remedy = "{target} is as it was. dbctl migrate up would end in the same way.{advice}"


class RehearsalRefusedError(DbctlError):
    code, exit_status = "rehearsal-refused", Exit.REFUSED
    sentence = "{target}: {name} cannot be rehearsed, for it reaches beyond a copy: {reason} (line {line})"
    remedy = "Nothing was run. Do that part by hand, or rehearse on a server of its own."


class ReplayFailedError(DbctlError):
    code, exit_status = "replay-failed", Exit.FAILED
    sentence = "{target}: {name} cannot be run anew in an empty database{place}: {reason}"
    remedy = "Nothing was changed. Without it nothing tells what the schema should be; dbctl migrate verify looks over the files."


class MigrationInvalidError(DbctlError):
    code, exit_status = "migration-invalid", Exit.USAGE
    sentence, remedy = "{file}: {reason}", "Nothing was run."
