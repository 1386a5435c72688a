"""Failures of transfers between engines, and of comparisons of two databases."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit

_COPY_FIRST = "A transfer that was switched has ended. Copy the rows first with: `transfer run --to {url}`"


class TransferDestinationError(DbctlError, status=Exit.REFUSED):
    sentence = "{url} is not empty: it has {tables}"
    remedy = "Nothing was changed. Create an empty database, and pass its address with --to."


class TransferSameError(DbctlError, status=Exit.REFUSED):
    sentence = "the source and the destination are the same database: {url}"
    remedy = "Nothing was changed. Pass the address of an empty database with --to."


class TransferOtherError(DbctlError, status=Exit.REFUSED):
    sentence = "{target} has an unfinished transfer of another database: {source}"
    remedy = (
        "Nothing was changed. Continue that transfer, or pass the address of an empty database with --to."
    )


class TransferMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "{target} has no finished copy to switch to"
    remedy = _COPY_FIRST


class TransferDestinationMissingError(DbctlError, status=Exit.UNREACHABLE):
    sentence = "{url} does not exist"
    remedy = _COPY_FIRST


class TransferSchemaError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{target} lacks {missing} of the source"
    remedy = "No row was copied. Bring the source to the version of the migrations, or derive the schema with --derive."


class TransferSchemaChangedError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "the schema of {target} changed since the copy: {changes}"
    remedy = "The source is unchanged. Copy it again with: `transfer run --to {url}`"


class TransferLedgerError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "the ledgers {ledger} differ: {difference}"
    remedy = "The source is unchanged. Bring both to the same version of the app's migrations, and copy again with: `transfer run --to {url}`"


class TransferSourcePendingError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{target} lacks migrations that the destination would have: {names}"
    remedy = "Nothing was changed. Derive the schema with --derive, or run: `migrate up`"


class ValuesUnstorableError(DbctlError, status=Exit.REFUSED):
    sentence = "the destination does not accept {target} as it is"
    remedy = (
        "No row was copied. Delete rows that only the destination has there. Run the command again after you correct"
        " others with: `data set TABLE KEY COLUMN=VALUE`"
    )


class TransferDifferentError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "the destination differs from {target} in {tables}"
    remedy = "The source is unchanged. List the rows with: `transfer verify --to {url}`"


class SourceChangingError(DbctlError, status=Exit.REFUSED):
    sentence = "{target} is still being written: {tables} changed during the switch"
    remedy = "The source accepts writes again. Stop the app, and run the command again."


class SideMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "no app, database or file {name!r}"
    remedy = "Pass APP/DATABASE, the address of a database, or backup:ID. List apps with: `apps list`"


class SidesSameError(DbctlError, status=Exit.USAGE):
    sentence = "{first} and {second} are the same database"
    remedy = "Pass two databases, or a database and backup:ID."
