"""Rows of one database with a text, and the same rows with another text in its place."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import NamedTuple

from dbctl.engines.contract.database import AnyOf, Condition, Query, Readable, Where, Writable, after_key
from dbctl.engines.sql.query_builder import KEYS_PER_QUERY, match_rows
from dbctl.errors.connection import ConstraintError
from dbctl.errors.usage import ValueInvalidError
from dbctl.extensions.copies.embedded import UnreadableTextError, refuse_unreadable, rewrite_texts
from dbctl.model import Struct, split_batches
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import require_row_count
from dbctl.services.app.live_table import LiveTable
from dbctl.services.app.row_writes import KeyedRows
from dbctl.services.app.secrets import find_table_secrets, list_key_columns, list_row_secrets
from dbctl.services.data.table import list_ledger_tables
from dbctl.services.rules.rows import RowRules, guard_constraints
from dbctl.services.search.fulltext import add_repair_hint

#: Rows in one query: their values may be long.
BATCH_ROWS = 200
#: Rows whose keys are named.
MAX_NAMED = 20
#: Why the text remains in a value.
KEY, SECRET, UNREADABLE, NAMES, TYPE, NO_KEY = (
    "key",
    "secret",
    "unreadable",
    "names",
    "type",
    "no-primary-key",
)
#: Beginnings of the types that store any text, of engines whose columns store only their type; no arrays of them.
_TEXT_TYPES = re.compile(
    r"(?!.*\[\])"
    r"(?:(?:VAR|N|NVAR|TINY|MEDIUM|LONG|CI)?(?:CHAR|TEXT)|CLOB|STRING|LARGE_STRING|UTF8|JSON|XML|NAME$)"
)
_DOCUMENT_STARTS = ("{", "[", '"')
#: Characters that are the same in every form of JSON and of PHP's serialization.
_PLAIN = re.compile(r"[A-Za-z0-9 !#$%()*,\-.:;?@\[\]^_{|}~]+")


class ReplaceRequest(Struct, frozen=True, kw_only=True):
    """What is replaced, and where."""

    old: str
    new: str
    tables: Sequence[str] = ()  #: empty: all
    skipped: Sequence[str] = ()  #: ``table`` or ``table.column``
    secrets: bool = False  #: whether secrets are changed, too


class Place(NamedTuple):
    """A column, and why the text remains in its values; without a reason it was replaced."""

    table: str
    column: str
    reason: str = ""


class ReplacedRows:
    """Numbers of rows and values."""

    def __init__(self) -> None:
        self.rows = Counter[str]()  #: changed rows by table
        self.values = Counter[Place]()
        #: of the first rows with unreadable values
        self.keys = defaultdict[Place, list[Sequence[object]]](list)
        self.secrets = 0  #: changed secrets


class ChangedRow(NamedTuple):
    """A row with the text: its primary key, and its new values."""

    key: Sequence[object]
    values: Mapping[str, object]


class TextReplacement:
    """The replacement in one value."""

    def __init__(self, old: str, new: str) -> None:
        # Plain text such as HTML may contain parts of JSON, in which slashes are escaped.
        escaped = old.replace("/", r"\/")
        self._texts = {old: new, escaped: new.replace("/", r"\/")} if escaped != old else {old: new}
        self._pattern = re.compile("|".join(map(re.escape, self._texts)))
        self._is_growing = old in new
        #: every value with the text contains one of these, in whatever way JSON escapes it; letters of ASCII in any case
        self.filters = _find_filters(old)

    def replace(self, value: str) -> str:
        """Return the value with the new text.

        Raises:
            UnreadableTextError: a part with the text is serialized, but cannot be read.
        """
        return rewrite_texts(value, self._replace, unreadable=self._keep)

    def remains_in(self, value: str) -> bool:
        """Return whether a value contains the text, other than as a part of the new one."""
        return not self._is_growing and self.is_in(value)

    def is_in(self, value: str) -> bool:
        return self._pattern.search(value) is not None

    def _replace(self, text: str, _path: str) -> str:
        return self._pattern.sub(lambda match: self._texts[match[0]], text)

    def _keep(self, text: str, path: str) -> str:
        return refuse_unreadable(text, path) if self.is_in(text) else text

    def may_be_in(self, value: str) -> bool:
        """Return whether a value matches a filter: the others of its row need not be read."""
        return any(text in value or text in value.lower() for text in self.filters)


def _find_filters(old: str) -> list[str]:
    if runs := _PLAIN.findall(old):
        return [max(runs, key=len)]
    units = old[0].encode("utf-16-be")
    return [old[0], f"\\u{units[:2].hex()}"]


class ReplaceInDatabase:
    """The replacement in the tables of one database."""

    def __init__(self, app: App, name: str, db: Readable, request: ReplaceRequest) -> None:
        """Read the schema."""
        self._app, self.name, self._db = app, name, db
        excluded, keys = {*list_ledger_tables(app, name, db), *request.skipped}, _find_keys(db)
        self._tables = [
            ReplaceInTable(app, name, db, table, request, keys[table])
            for table, live in db.tables().items()
            if not live.is_view and table not in excluded and (table in request.tables or not request.tables)
        ]

    def count(self) -> ReplacedRows:
        """Return the numbers, and check the rules of the app for each row."""
        counts = ReplacedRows()
        for table in self._tables:
            with self._db.read_all_rows(table.name):
                for _ in table.find_rows(self._db, counts):
                    pass
        return counts

    def apply(self, db: Writable) -> ReplacedRows:
        """Change the rows in the open transaction."""
        counts = ReplacedRows()
        columns = {table.name: table.columns for table in self._tables}
        with guard_constraints(self._app, self.name, db, columns):
            for table in self._tables:
                table.apply(db, counts)
        return counts


def _find_keys(db: Readable) -> Mapping[str, Collection[str]]:
    """Return the columns of primary keys and of both sides of foreign keys by table."""
    keys = {name: set(table.primary_key) for name, table in db.tables().items()}
    for parent in db.tables():
        for reference in db.references(parent):
            keys[parent].update(reference.to)
            keys[reference.table].update(reference.columns)
    return keys


class ReplaceInTable:
    """The replacement in the rows of one table."""

    def __init__(
        self,
        app: App,
        database: str,
        db: Readable,
        table: str,
        request: ReplaceRequest,
        keys: Collection[str],
    ) -> None:
        """Read the schema; ``keys`` are the columns that are not changed because other rows depend on them."""
        self._app, self._request, self.name = app, request, table
        live = LiveTable(app.profile, db, table, "replacing a text")
        self._live, self._primary_key = live.table.columns, live.table.primary_key
        scanned = db.text_scanner.text_columns(table) if db.text_scanner else ()
        self.columns = [
            name
            for name in scanned
            if not (self._live[name].native or self._live[name].is_generated)
            and f"{table}.{name}" not in request.skipped
        ]
        #: columns that are not changed, and why
        self._fixed = {
            name: KEY if name in keys else TYPE
            for name in self.columns
            if name in keys or (db.native_types and not _TEXT_TYPES.match(self._live[name].type))
        }
        #: columns in which every value is JSON, also numbers
        self._documents = {name for name in self.columns if self._live[name].type.startswith("JSON")}
        self._rules = RowRules(app, database, live)
        self._replacement = TextReplacement(request.old, request.new)
        self._parse = cache(partial(db.codec.json_parser, table))
        self._find_secrets = partial(
            list_row_secrets,
            app,
            database,
            cache(partial(find_table_secrets, app, database, db)),
            cache(partial(list_key_columns, db)),
            table,
        )

    def apply(self, db: Writable, counts: ReplacedRows) -> None:
        """Change the rows."""
        with add_repair_hint(self._app.profile.search, self.name, db):
            for rows in split_batches(self.find_rows(db, counts), KEYS_PER_QUERY):
                columns = list(dict.fromkeys(name for row in rows for name in row.values))
                keys = [match_rows(self._primary_key, [row.key for row in rows])]
                before = KeyedRows(db, self.name, columns, keys)
                audit.note_changing_rows(db, self.name, columns, keys)
                for row in rows:
                    self._write(db, row)
                before.require_changed({tuple(row.key): row.values for row in rows})
        if count := counts.rows[self.name]:
            audit.record(self._app, db, "data.replace", self.name, "", {"rows": count})

    def _write(self, db: Writable, row: ChangedRow) -> None:
        where = [match_rows(self._primary_key, [row.key])]
        try:
            require_row_count(db.update(self.name, row.values, where), 1, db)
        except ConstraintError as error:
            error.details = [self._describe_place(", ".join(row.values), row.key)]
            raise

    def find_rows(self, db: Readable, counts: ReplacedRows) -> Iterator[ChangedRow]:
        """Yield the rows that the replacement changes, and count them and what remains.

        Raises:
            ValueInvalidError: a value would be too long, or violates a rule of the app.
        """
        if not self.columns:
            return
        names = list(dict.fromkeys([*self._primary_key, *self.columns, *self._rules.columns]))
        # SQLite finds no text after a NUL, which PHP writes into names of private properties
        filters = [*self._replacement.filters, "\0"]
        has_text = AnyOf([Condition(name, "contains", text) for name in self.columns for text in filters])
        after, offset = list[Where](), 0
        while True:
            where = [has_text, *after]
            # the rows of tables that inherit from it change with these tables
            query = Query(
                self.name, names, where, limit=BATCH_ROWS, offset=offset, for_update=True, only=True
            )
            rows = [dict(zip(names, row, strict=True)) for row in db.codec.read(query)]
            for row in rows:
                if changed := self._change(row, counts):
                    yield changed
            if len(rows) < BATCH_ROWS:
                return
            if self._primary_key:
                after = [after_key(self._primary_key, [rows[-1][name] for name in self._primary_key])]
            else:
                offset += BATCH_ROWS

    def _change(self, row: Mapping[str, object], counts: ReplacedRows) -> ChangedRow | None:
        texts = {
            name: value
            for name in self.columns
            if isinstance(value := row[name], str) and self._replacement.may_be_in(value)
        }
        if not self._primary_key:
            if any(map(self._replacement.is_in, texts.values())):
                counts.values[Place(self.name, "", NO_KEY)] += 1
            return None
        key = [row[name] for name in self._primary_key]
        new = {name: self._replace(name, value, key, counts) for name, value in texts.items()}
        new = {name: value for name, value in new.items() if value != row[name]}
        secrets = new.keys() & self._find_secrets(row) if new else set()
        if self._request.secrets:
            counts.secrets += len(secrets)
        else:
            for name in secrets:
                counts.values[Place(self.name, name, SECRET)] += 1
            new = {name: value for name, value in new.items() if name not in secrets}
        if not new:
            return None
        values = {name: self._parse_value(name, value, key) for name, value in new.items()}
        self._rules.check_changed(row, new)
        counts.rows[self.name] += 1
        for name in new:
            counts.values[Place(self.name, name)] += 1
        return ChangedRow(key, values)

    def _replace(self, name: str, value: str, key: Sequence[object], counts: ReplacedRows) -> str:
        """Return the value with the new text, and count where the old one remains."""
        reason = self._fixed.get(name, "")
        new, remains = value, bool(reason) and self._replacement.is_in(value)
        if not reason and not (name in self._documents and not value.lstrip().startswith(_DOCUMENT_STARTS)):
            try:
                new = self._replacement.replace(value)
                reason, remains = NAMES, self._replacement.remains_in(new)
            except UnreadableTextError:
                reason, remains = UNREADABLE, True
                if len(counts.keys[Place(self.name, name, reason)]) < MAX_NAMED:
                    counts.keys[Place(self.name, name, reason)].append(key)
        if remains:
            counts.values[Place(self.name, name, reason)] += 1
        return new

    def _parse_value(self, name: str, value: str, key: Sequence[object]) -> object:
        try:
            return self._parse(name)(value)
        except ValueInvalidError as error:
            place = self._describe_place(name, key)
            raise ValueInvalidError(**{**error.context, "name": place}) from error

    def _describe_place(self, names: str, key: Sequence[object]) -> str:
        return f"{self.name}.{names} of {' '.join(map(str, key))}"
