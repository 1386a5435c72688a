"""Failures of the tables, rows, content and search indexes of a database."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.errors.base import DbctlError, Exit, shorten_details


class ImportInvalidError(DbctlError, status=Exit.USAGE):
    sentence, remedy = "cannot import {count} rows of {file}", "Nothing was imported."

    def __init__(self, *, errors: Sequence[str], rows: int | None, file: str) -> None:
        """Show the first errors, each with its line, and count the others; ``rows`` None: not all rows were read."""
        super().__init__(count=f"{len(errors)} of {rows}" if rows else f"{len(errors)} or more", file=file)
        self.details = shorten_details(errors)


class TablesUnreadableError(DbctlError, status=Exit.PARTIAL):
    sentence, remedy = (
        "{target} has tables that cannot be read: {tables}",
        "Find damage with: `integrity check`",
    )


class ColumnMissingError(DbctlError, status=Exit.USAGE):
    sentence, remedy = "{table} has no column {column!r}", "Columns: {names}."
    misspelled = "column"


class VersionsTaggedError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: tags protect versions that would be deleted: {tags}"
    remedy = "Nothing was deleted. Wait until running backups end, or delete tags that are no longer used."


class PartialWriteError(DbctlError, status=Exit.FAILED):
    sentence = "{target}: the change failed ({reason}) and cannot be reverted in {tables}"
    remedy = "Stop the app, check the rows of the change, and run it again."


class TempSpaceFailedError(DbctlError, status=Exit.FAILED):
    sentence = "cannot decompress {target} into a temporary file: {reason}"
    remedy = "Nothing was changed; the backup itself may be valid. Check the disk."


class TransitionRefusedError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: {column} cannot change from {before} to {after}"
    remedy = "From {before} it can change to: {allowed}.{hint} --any-state allows every state."


class TableMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "no table {name!r} in {target}"
    remedy = "Select another database with --db, or list tables with: `schema show`"


class ContentNullError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "{column} of {table} {key} in {target} is NULL", "Nothing was written."


class RowNotFoundError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "no row {key} in {table} of {target}", "{hint}"
    default_hint = "List rows with: `data rows {table}`"


class DatabaseNotFoundError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "database {name} of {profile} ({files}) not found in {directory}"
    remedy = "Pass its path: --url {name}=PATH.{notes}"


class DatabasesAmbiguousError(DbctlError, status=Exit.USAGE):
    sentence = "{place} has {count} databases: {found}"
    remedy = "Nothing was written. Configure one of them with: {commands}"


class DatabaseNotEmptyError(DbctlError, status=Exit.REFUSED):
    sentence = "{target} is not empty: it has the tables {tables}"
    remedy = "Nothing was changed. Create a new, empty database."


class ContentUndecodableError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{column} of {table} {key} in {target} is not {encoding}: {reason}"
    remedy = "Write the stored bytes with: --encoding plain"


class LimitExceededError(DbctlError, status=Exit.REFUSED):
    sentence = "{rows} rows of {table} in {target} match, but the limit is {limit}"
    remedy = "Nothing was changed. Narrow the filter, or raise the limit with --limit N."


class AlreadyExistsError(DbctlError, status=Exit.REFUSED):
    sentence, remedy = "{target} already has {kind} {name!r}", "Nothing was changed. {hint}"


class MaintenanceUnsafeError(DbctlError, status=Exit.REFUSED):
    sentence, remedy = "{operation} of {target} is unsafe: {reason}", "Nothing was changed. {hint}"


class SameFileError(DbctlError, status=Exit.REFUSED):
    sentence = "{path} is the database itself, under this or another name"
    remedy = "Nothing was changed. Restore from a separate file."


class TimesAmbiguousError(DbctlError, status=Exit.REFUSED):
    sentence = (
        "{table}.{column} of {target} has {rows} whose time zone is ambiguous (with and without Z){example}"
    )
    remedy = "Nothing was changed. Repair another table with --table, or set one time with: `data set {table} KEY {column}=TIME`"


class VectorInvalidError(DbctlError, status=Exit.USAGE):
    sentence, remedy = "{place} is not a usable vector: {reason}", "{hint}"


class VectorIndexUnsuitableError(DbctlError, status=Exit.REFUSED):
    sentence, remedy = "{target}: cannot index {name}: {reason}", "Nothing was changed. {hint}"


class VectorMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "{target} has no vector for {kind} {id!r}", "{hint}"


class TextIndexInvalidError(DbctlError, status=Exit.FAILED):
    sentence = "{target}: the new index {name} failed verification: {reason}"
    remedy = "It was rolled back. Please report this error."


class TextIndexForeignError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: {name} is a table, not a full-text index"
    remedy = "Nothing was changed. Rename that table, then run: `search index build`"
