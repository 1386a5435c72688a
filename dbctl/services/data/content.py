"""The file that one column of a row holds, decoded as the profile says that the app stores it."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from urllib.parse import unquote_to_bytes

from dbctl.errors import ContentAbsentError, ContentUndecodableError, UsageError
from dbctl.model import Done, Row, Value
from dbctl.profiles import Encoding
from dbctl.profiles.model import Name, StoredFile
from dbctl.services.app import App, cut, find_column
from dbctl.services.data.table import DataTable, database_of, key_of

_DATA_URL = re.compile(r"data:([^,;]*)((?:;[^,;]*)*?)(;base64)?,", re.IGNORECASE)


class ContentWritten(Done, frozen=True, kw_only=True):
    """Answer of ``data show`` with ``--to``."""

    table: str
    key: Row
    column: str
    file: str
    bytes: int
    name: str | None  #: what the row says that the file is called
    content_type: str | None  #: of the data URL, else what the row says


class Content(Value, frozen=True, kw_only=True):
    """The content of one column, decoded."""

    table: str
    key: Row
    column: str
    data: bytes
    name: str | None
    content_type: str | None
    remarks: Sequence[str]

    def written(self, file: str) -> ContentWritten:
        """Return the answer once the content is in ``file``."""
        return ContentWritten(
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
    """Return the content of the file that a row holds.

    Args:
        app: the app.
        name: the table.
        key: the primary key of the row.
        columns: the column; empty: the one that the profile names for the table.
        encoding: how it is stored; None: as the profile says, else plain.
        secrets: whether a column of secrets may be read.

    Raises:
        UsageError: no column is named, or several, or one of secrets.
        RowAbsentError, ContentAbsentError: there is no such row, or its column is NULL.
        ContentUndecodableError: it is not stored in that encoding.
    """
    table = DataTable(app, app.reader(database_of(app)), name, secrets=secrets)
    known = next((file for file in _files(table) if columns in ((), [], [_column(table, file)])), None)
    if len(columns) > 1 or not (columns or known):
        raise UsageError(detail=f"name the one column of {name} that holds the file: --columns NAME")
    column = table.asked_column(columns[0] if columns else str(known and _column(table, known))).name
    row = table.one(key)
    shown = " ".join(cut(word) for word in key)
    if row[column] is None:
        raise ContentAbsentError(column=column, table=name, key=shown, target=table.db.target)
    stored = _bytes(row[column])
    chosen = encoding or (known.encoding if known else "plain")
    try:
        data, media_type = (stored, "") if chosen == "plain" else _decoded(stored)
    except ValueError as error:
        raise ContentUndecodableError(
            column=column, table=name, key=shown, target=table.db.target, encoding=chosen, reason=error
        ) from error
    size = _field(table, row, known.size if known else None)
    differs = chosen != "plain" and size not in (None, str(len(data)))
    return Content(
        table=name,
        key=key_of(table, row),
        column=column,
        data=data,
        name=_field(table, row, known.name if known else None),
        content_type=media_type or _field(table, row, known.type if known else None),
        remarks=[f"the row says {size} bytes, and its content has {len(data)}"] if differs else (),
    )


def _files(table: DataTable) -> list[StoredFile]:
    app = table.app
    return [
        file
        for file in app.profile.stored_file
        if (file.database or app.main()) == table.database
        and file.table == table.name
        and _column(table, file) is not None
    ]


def _column(table: DataTable, file: StoredFile) -> str | None:
    return find_column(table.live.table, file.column)


def _field(table: DataTable, row: Mapping[str, object], name: Name | None) -> str | None:
    """Return what a column of the row says, as it may be shown."""
    column = find_column(table.live.table, name)
    value = table.shown(column, row[column]) if column else None
    return None if value is None else str(value)


def _bytes(value: object) -> bytes:
    """Return a stored value as bytes; text that is not UTF-8 keeps its own."""
    return (
        bytes(value)
        if isinstance(value, bytes | memoryview)
        else str(value).encode("utf-8", "surrogateescape")
    )


def _decoded(stored: bytes) -> tuple[bytes, str]:
    """Return what base64, or a data URL, stands for, and the media type of the URL.

    Raises:
        ValueError: it is neither.
    """
    text = stored.decode("ascii")
    found = _DATA_URL.match(text)
    if found and not found[3]:
        return unquote_to_bytes(text[found.end() :]), found[1]
    letters = "".join(text[found.end() if found else 0 :].split())
    return b64decode(letters, validate=True), found[1] if found else ""
