"""Failures of tables, rows, and content of a database."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.errors.base import LONGEST_LIST, DbctlError, Exit


class ImportInvalidError(DbctlError):
    code, exit_status = "import-invalid", Exit.USAGE
    sentence, remedy = "{count} rows of {file} cannot be imported", "Nothing was imported."

    def __init__(self, *, wrong: Sequence[str], rows: int, file: str) -> None:
        """Take every error with its line; a few of many are told, the others counted."""
        super().__init__(count=f"{len(wrong)} of {rows}", file=file)
        more = [f"… and {len(wrong) - LONGEST_LIST} more"] if len(wrong) > LONGEST_LIST else []
        self.details = [*wrong[:LONGEST_LIST], *more]


class ColumnMissingError(DbctlError):
    code, exit_status = "column-missing", Exit.USAGE
    sentence, remedy = "{table} has no column {column!r}", "It has: {names}."


class VersionsKeptError(DbctlError):
    code, exit_status = "versions-kept", Exit.REFUSED
    sentence = "{target}: versions that would be taken away are kept by a name: {tags}"
    remedy = "A backup may be reading them: wait for its end; what nobody needs any more, take the name away from. Nothing was taken away."


class HalfWrittenError(DbctlError):
    code, exit_status = "half-written", Exit.FAILED
    sentence = "{target}: the change failed half way ({reason}), and somebody else wrote {tables} meanwhile, so that what was written there by then stays"
    remedy = "Stop the app, look at the rows that the change was about, and run it again."


class ScratchFailedError(DbctlError):
    code, exit_status = "scratch-failed", Exit.FAILED
    sentence = "{target} cannot be unpacked for a moment: {reason}"
    remedy = "Nothing was changed, and it says nothing about the backup. Look after the disk."


class MoveRefusedError(DbctlError):
    code, exit_status = "move-refused", Exit.REFUSED
    sentence = "{target}: {column} may not go from {before} to {after}"
    remedy = "From {before} it may go to: {moves}.{hint}"


class RowMissingError(DbctlError):
    code, exit_status = "row-missing", Exit.NOT_FOUND
    sentence, remedy = "no {what} {id!r} in {target}", "dbctl search {what} WORDS finds them."


class TableMissingError(DbctlError):
    code, exit_status = "table-missing", Exit.NOT_FOUND
    sentence = "no table {name!r} in {target}"
    remedy = "dbctl stats tables lists them; --db names another database.{near}"


class ContentAbsentError(DbctlError):
    code, exit_status = "content-absent", Exit.NOT_FOUND
    sentence, remedy = "{column} of {table} {key} in {target} is NULL", "Nothing was written."


class RowAbsentError(DbctlError):
    code, exit_status = "row-absent", Exit.NOT_FOUND
    sentence, remedy = "{table} of {target} has no row {key}", "dbctl data rows {table} lists them."


class DatabaseNotFoundError(DbctlError):
    code, exit_status = "database-not-found", Exit.NOT_FOUND
    sentence = "no database {name} of {profile} ({files}) was found below {directory}"
    remedy = "Say where it is: --url {name}=PATH.{seen}"


class DatabaseNotEmptyError(DbctlError):
    code, exit_status = "database-not-empty", Exit.REFUSED
    sentence = "{target} is not empty: it holds {tables}"
    remedy = "Nothing was changed. Make a new, empty database for it."


class ContentUndecodableError(DbctlError):
    code, exit_status = "content-undecodable", Exit.UNSOUND
    sentence = "{column} of {table} {key} in {target} is not {encoding}: {reason}"
    remedy = "--encoding plain writes it as it is stored."


class LimitExceededError(DbctlError):
    code, exit_status = "limit-exceeded", Exit.REFUSED
    sentence = "{rows} rows of {table} in {target} match, and the limit is {limit}"
    remedy = "Nothing was changed. Narrow the filter, or allow more with --limit N."


class AlreadyExistsError(DbctlError):
    code, exit_status = "already-exists", Exit.REFUSED
    sentence, remedy = "{target} already has {what} {name!r}", "Nothing was changed. {instead}"


class UpkeepUnsafeError(DbctlError):
    code, exit_status = "upkeep-unsafe", Exit.REFUSED
    sentence, remedy = "{what} of {target} would do harm: {reason}", "Nothing was changed. {instead}"


class SameFileError(DbctlError):
    code, exit_status = "same-file", Exit.REFUSED
    sentence = "{path} is the database itself, under this or another name"
    remedy = "Nothing was changed. Restore from a file of its own."


class TimesAmbiguousError(DbctlError):
    code, exit_status = "times-ambiguous", Exit.REFUSED
    sentence = (
        "{table}.{column} of {target} holds {rows} with T and without Z, whose zone nothing tells{example}"
    )
    remedy = "Nothing was changed. dbctl data set {table} KEY {column}=TIME sets one of them; with --table another table is repaired."
