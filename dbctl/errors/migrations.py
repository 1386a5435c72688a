"""Failures of migrations and of their ledgers."""

from __future__ import annotations

from pathlib import Path

from dbctl.errors.base import DbctlError, Exit


class MigrationsMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "{target} has no folder of migrations{place}"
    remedy = "Set [apps.NAME.migrations] in the configuration, or pass --migrations DIR."

    def __init__(self, *, target: str, path: Path | None) -> None:
        """Report ``path`` as the missing folder; None: no folder is configured."""
        super().__init__(target=target, path=path, place=f" ({path})" if path else "")


class MigrationMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "no {kind} {name!r} in {folder}"
    remedy = "List migrations with: `migrate status`"


class MigrationVariantUnknownError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "{app} has no variant {name!r}", "Variants: {names}."


class MigrationFilesMissingError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: the ledger lists migrations that are missing in {folder} ({names})"
    remedy = "Nothing was run. Pass the folder of the deployed app with --migrations DIR, or copy the files into {folder}; remove lost migrations from the ledger with: `migrate repair --missing --db {database}`"


class MigrationsAheadError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{target} is newer than the files in {folder}: its ledger also lists {names}"
    remedy = "Nothing was run. Install the newer version of the app, or pass its folder: --migrations DIR."


class DuplicateMigrationNumberError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{target}: {names} share their number with another migration"
    remedy = "Nothing was run. Give each migration a unique number."


class LedgerForeignError(DbctlError, status=Exit.REFUSED):
    sentence = "the migrations of {target} are recorded by {runner}, whose ledger dbctl cannot write"
    remedy = "Nothing was run. Run them with {runner}, or create a ledger for dbctl with: `migrate baseline`"


class MigrationsOutOfOrderError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: {names} would run after {newest}, which is already applied"
    remedy = "Nothing was run. Give them a number above the newest one."


class MigrationsShippedError(DbctlError, status=Exit.REFUSED):
    sentence = "{target} uses the migrations bundled with dbctl, which cannot be extended"
    remedy = "Nothing was changed. Set [apps.NAME.migrations] in the configuration, or pass --migrations DIR."


class RebuildLosesError(DbctlError, status=Exit.REFUSED):
    sentence = "a rebuild of {table} in {target} would lose: {losses}"
    remedy = "Nothing was written. Write the rebuild by hand, into an empty file of: `migrate new NAME`"


class MigrationsMismatchError(DbctlError, status=Exit.REFUSED):
    sentence = "the schema of {target} differs from the migrations in {folder}: {differences}"
    remedy = (
        "Nothing was recorded. Try another variant with --variant, or another folder with --migrations DIR."
    )


class MigrationVariantMismatchError(DbctlError, status=Exit.REFUSED):
    sentence = "{target} has the variant {actual}, not {expected}"
    remedy = "Nothing was changed. Omit --variant; dbctl detects the variant of a database that has tables."


class LedgerMissingError(DbctlError, status=Exit.REFUSED):
    sentence = "{target} has tables but no ledger ({table}) of applied migrations"
    remedy = "Nothing was run. Create the ledger from the schema with: `migrate baseline`"


class MigrationChangedError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{target}: {names} changed after being applied"
    remedy = "Nothing was run. Restore the old text, and write the change as a new migration; or accept the text with: `migrate repair --checksums --db {database}`"


class MigrationBrokenError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: the app started {names} but did not complete it"
    remedy = "Nothing was run. Revert its changes, then run: `migrate repair --failed --db {database}`; or complete them, then run: `migrate mark NAME --applied --db {database}`"


class MigrationFailedError(DbctlError, status=Exit.FAILED):
    sentence = "{target}: {name} failed{place}: {reason}"
    remedy = "{name} was rolled back completely. Done by this run: {applied}; not run: {pending}.{known}"


class MigrationPartialError(MigrationFailedError, status=Exit.FAILED):
    """Context in addition to ``MigrationFailedError``: ``done`` (the statements that ran), ``leftovers`` of the failed one, and ``correction``, what to do before."""

    remedy = "It ran without a transaction, and its changes remain: {done}.{leftovers} Done by this run: {applied}; not run: {pending}.{known} {correction} continue with: {resume}"


class MigrationInDoubtError(MigrationFailedError, status=Exit.FAILED):
    remedy = "It is unknown whether {name} was committed. Done by this run before it: {applied}; not run: {pending}.{known} After you fix the cause, check with: `migrate status`"


class RowsLostError(MigrationFailedError, status=Exit.REFUSED):
    sentence = "{target}: {name} deletes rows without declaring it: {losses}"
    remedy = "{undone} To allow it, add the line -- dbctl: allow-data-loss above its first statement, or pass --allow-data-loss {name}. Done by this run: {applied}; not run: {pending}."


class MigrationStatementUnknownError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: a killed run left it unknown whether statement {number} of {name} ran: {sql}"
    remedy = "Nothing was run. Check the database; if the statement took effect, record it with: `migrate repair --statement done --db {database}`; otherwise with: `migrate repair --statement undone --db {database}`"


class MigrationStepsChangedError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{target}: statement {number} of {name} has run, but its file now differs"
    remedy = "Nothing was run. Restore the text of the statements that ran; later ones may change."


class MigrationStepMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "{target}: {name}: no statement is in an unknown state"
    remedy = "Show its progress with: `migrate status`"


class MigrationPartiallyRevertedError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: {name} is only partially reverted"
    remedy = "Nothing was run. Revert the remaining statements with: `migrate down`"


class DownAllRefusedError(DbctlError, status=Exit.REFUSED):
    sentence = "{app} is protected: its migrations cannot all be reverted at once"
    remedy = "Nothing was run. Revert the last ones with --steps N or --to NAME."


class ResetRefusedError(DbctlError, status=Exit.REFUSED):
    sentence = "{app} is protected: its databases cannot be reset"
    remedy = "Nothing was changed. migrate reset is for development databases."


class MigrationIrreversibleError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: {name} cannot be reverted: {reason}"
    remedy = "Nothing was run. Write a new migration that reverts it, or restore an earlier backup."


class RehearsalFailedError(DbctlError, status=Exit.FAILED):
    """Context: ``failure``, the message of ``migrate up`` on the copy."""

    sentence = "rehearsal on a copy failed: {failure}"
    remedy = "{target} is unchanged, and would fail in the same way.{advice}"


class RehearsalRefusedError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: cannot rehearse {name} without effects outside the copy: {reason}"
    remedy = "Nothing was run. Run that part manually, or rehearse on a separate server."


class ReplayFailedError(DbctlError, status=Exit.FAILED):
    sentence = "{target}: {name} failed in an empty database{place}: {reason}"
    remedy = "Nothing was changed. The expected schema cannot be determined. Correct the files; or, if other tools created tables, record applied ones with: `migrate mark NAME --applied`"


class ReplayRefusedError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: cannot run {name} in an empty database, as it has effects outside of it: {reason} (line {line})"
    remedy = "Nothing was run. The expected schema cannot be determined on this server. Run that part manually, and remove it from the file; or, without the comparison, record applied ones with: `migrate mark NAME --applied`"


class MigrationInvalidError(DbctlError, status=Exit.USAGE):
    sentence, remedy = "{file}: {reason}", "Nothing was run."
