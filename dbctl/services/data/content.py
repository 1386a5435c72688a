"""Read a file that is stored in a column, decoded as the profile defines."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from urllib.parse import unquote_to_bytes

from dbctl.errors.databases import ContentNullError, ContentUndecodableError
from dbctl.errors.usage import UsageError
from dbctl.model import ChangeResult, Effect, Row, Struct
from dbctl.profiles.codecs import Encoding
from dbctl.profiles.model.base import ColumnNames
from dbctl.profiles.model.profile import StoredFile
from dbctl.services.app.app import App
from dbctl.services.app.live_table import find_column
from dbctl.services.app.validation import truncate
from dbctl.services.data.table import DataTable, row_key, selected_database

_DATA_URL = re.compile(r"data:([^,;]*)((?:;[^,;]*)*?)(;base64)?,", re.IGNORECASE)


class ContentWriteResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data show`` with ``--to``."""

    table: str
    key: Row
    column: str
    file: str
    bytes: int
    name: str | None  #: the file name in the row
    content_type: str | None  #: of the data URL, or of the row

    @property
    def effect(self) -> Effect | None:
        place = f"of {self.table} to {self.file}"
        return Effect("wrote", "column", [self.column], place=place, bytes=self.bytes)


class Content(Struct, frozen=True, kw_only=True):
    """The content of one column, decoded."""

    table: str
    key: Row
    column: str
    data: bytes
    name: str | None
    content_type: str | None
    remarks: Sequence[str]

    def create_result(self, file: str) -> ContentWriteResult:
        return ContentWriteResult(
            table=self.table,
            key=self.key,
            column=self.column,
            file=file,
            bytes=len(self.data),
            name=self.name,
            content_type=self.content_type,
        )


def read_content(
    app: App,
    name: str,
    key: Sequence[str],
    *,
    columns: Sequence[str] = (),
    encoding: Encoding | None = None,
    secrets: bool = False,
) -> Content:
    """Return the content of the file in a row.

    ``columns`` is one column, or empty for that of the profile; ``encoding`` None is that of the profile, or plain.

    Raises:
        UsageError: not exactly one column is selected, or it is secret.
        RowNotFoundError, ContentNullError: the row does not exist, or its column is NULL.
        ContentUndecodableError: the content does not have this encoding.
    """
    table = DataTable(app, app.reader(selected_database(app)), name, secrets=secrets)
    stored_files = _find_stored_files(table)
    stored_column = next((stored for stored in stored_files if columns in ((), [], [stored])), "")
    if len(columns) > 1 or not (columns or stored_column):
        raise UsageError(detail=f"select the column of {name} that contains the file: --columns NAME")
    stored_file = stored_files.get(stored_column)
    column = table.require_readable_column(columns[0] if columns else stored_column).name
    key = table.complete_key(key)
    row = table.find(key)
    key_text = " ".join(truncate(word) for word in key)
    if row[column] is None:
        raise ContentNullError(column=column, table=name, key=key_text, target=table.db.target)
    stored = _to_bytes(row[column])
    selected_encoding = encoding or (stored_file.encoding if stored_file else "plain")
    try:
        data, media_type = (stored, "") if selected_encoding == "plain" else _decode(stored)
    except ValueError as error:
        raise ContentUndecodableError(
            column=column,
            table=name,
            key=key_text,
            target=table.db.target,
            encoding=selected_encoding,
            reason=error,
        ) from error
    size = _read_field(table, row, stored_file.size if stored_file else None)
    differs = selected_encoding != "plain" and size not in (None, str(len(data)))
    return Content(
        table=name,
        key=row_key(table, row),
        column=column,
        data=data,
        name=_read_field(table, row, stored_file.name if stored_file else None),
        content_type=media_type or _read_field(table, row, stored_file.type if stored_file else None),
        remarks=[f"the size in the row is {size} bytes, but its content has {len(data)}"] if differs else (),
    )


def _find_stored_files(table: DataTable) -> dict[str, StoredFile]:
    """Return the files that the profile describes in a table, by their column."""
    app = table.app
    return {
        column: file
        for file in app.profile.stored_file
        if app.resolve_database(file) == table.database
        and file.table == table.name
        and (column := find_column(table.live.table, file.column))
    }


def _read_field(table: DataTable, row: Mapping[str, object], name: ColumnNames | None) -> str | None:
    """Return the value of a column as text, masked if it is secret."""
    column = find_column(table.live.table, name)
    value = table.mask_value(column, row[column]) if column else None
    return None if value is None else str(value)


def _to_bytes(value: object) -> bytes:
    """Return a stored value as bytes; text that is not UTF-8 keeps its bytes."""
    return (
        bytes(value)
        if isinstance(value, bytes | memoryview)
        else str(value).encode("utf-8", "surrogateescape")
    )


def _decode(stored: bytes) -> tuple[bytes, str]:
    """Return the content of base64 or a data URL, and the media type of the URL.

    Raises:
        ValueError: the text is neither.
    """
    text = stored.decode("ascii")
    match = _DATA_URL.match(text)
    if match and not match[3]:
        return unquote_to_bytes(text[match.end() :]), match[1]
    encoded = "".join(text[match.end() if match else 0 :].split())
    return b64decode(encoded, validate=True), match[1] if match else ""
