"""Derive the schema of a MySQL or MariaDB database, and find values that another engine cannot store."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count

import msgspec

from dbctl.engines.contract.schema import SchemaReference
from dbctl.engines.mysql.dialect import Server
from dbctl.engines.mysql.opening import quote
from dbctl.engines.mysql.values import normalize_type
from dbctl.engines.sql.catalog import quote_literal
from dbctl.extensions.transfer.engines.mysql.schema import (
    CHARACTER_BYTES,
    LONGEST_VARCHAR,
    read_type,
    write_type,
)
from dbctl.extensions.transfer.portable.contract import (
    IndexTerm,
    LogicalKind,
    LogicalType,
    PortableColumn,
    PortableIndex,
    PortableSchema,
    PortableTable,
    StorageLimits,
)
from dbctl.extensions.transfer.portable.derivation import Derivation
from dbctl.extensions.transfer.portable.expressions import UntranslatableError
from dbctl.extensions.transfer.portable.read import (
    FindCondition,
    ServerValueScreen,
    check_bytes,
    check_integer,
    limit_decimal,
    match_labels,
    match_large_numbers,
)

#: The largest key of InnoDB, and the bytes of its columns that are not text.
_KEY_BYTES, _OTHER_BYTES = 3072, 16
#: The largest sum of the sizes of columns, with a reserve for columns that are not text.
_ROW_BYTES = 60_000
_VARCHAR_LENGTHS = (LONGEST_VARCHAR, 255, 64)
#: Characters of a long text that an index contains.
_PREFIX = 255
#: Characters of the longest comments.
_COLUMN_COMMENT, _TABLE_COMMENT = 1024, 2048
#: Since this version, MariaDB has collations that ignore case and distinguish accents.
_UCA1400_VERSION = (10, 10, 1)
_LITERAL_KINDS = frozenset[LogicalKind](
    {"boolean", "integer", "decimal", "real", "date", "time", "timestamp", "enum", "set"}
)


def _find_folding_collation(server: Server) -> str:
    """Return the collation that ignores only case."""
    if not server.is_mariadb:
        return "utf8mb4_0900_as_ci"
    is_new = server.version >= _UCA1400_VERSION
    return "utf8mb4_uca1400_nopad_as_ci" if is_new else "utf8mb4_unicode_520_nopad_ci"


class MySQLDerivation(Derivation):
    dialect = "mysql"
    allows_backslashes = False
    max_name_size = 64
    has_global_index_names = False
    ignores_case_of_columns = ignores_accents = True
    functions: Mapping[str, Mapping[LogicalKind, str]] = {
        "now": {
            "timestamp": "utc_timestamp({})",
            "date": "utc_date()",
            "time": "utc_time({})",
            "integer": "unix_timestamp()",
            "real": "unix_timestamp(now(6))",
            "text": "date_format(utc_timestamp(), '%Y-%m-%d %H:%i:%s')",
        },
        "today": dict.fromkeys(["date", "timestamp", "text"], "utc_date()"),
        "uuid": dict.fromkeys(["uuid", "text"], "uuid()"),
    }

    def __init__(self, schema: PortableSchema, server: Server) -> None:
        super().__init__(schema)
        self._server = server
        self._lengths = {table.name: _limit_lengths(table) for table in schema.tables}
        self._keys = {
            table.name: {name for key in _find_keys(table) for name in key} for table in schema.tables
        }
        for reference in (reference for table in schema.tables for reference in table.references):
            self._keys.setdefault(reference.table, set()).update(reference.to)
        self._longest_varchar = {
            table.name: _find_longest_varchar(table, self._keys[table.name]) for table in schema.tables
        }

    def quote(self, name: str) -> str:
        return quote(name)

    def column_type(self, table: PortableTable, column: PortableColumn) -> tuple[str, LogicalType]:
        logical = column.type
        if any("\\" in label for label in logical.labels):
            logical = LogicalType(kind="text", length=255)
        if length := self._lengths[table.name].get(column.name):
            logical = msgspec.structs.replace(
                logical, kind="bytes" if logical.kind == "bytes" else "text", length=length
            )
        declared = write_type(logical)
        if logical.kind == "uuid" and self._server.has_uuid_type:
            declared = "uuid"
        is_text = logical.kind == "text" and column.name not in self._keys[table.name]
        if is_text and logical.length is not None and logical.length > self._longest_varchar[table.name]:
            declared = "text"
        if logical.kind == "json":
            return declared, LogicalType(
                kind="json", json_form="text" if self._server.is_mariadb else "float"
            )
        if logical.kind == "uuid":
            return declared, LogicalType(kind="uuid")
        return declared, read_type(normalize_type(declared), list(logical.labels))

    def automatic_clause(self, table: PortableTable, column: PortableColumn) -> str:
        del table, column
        return "auto_increment"

    def extra_definitions(self, table: PortableTable) -> Iterator[str]:
        for column in table.columns:
            if column.is_automatic and list(table.key[:1]) != [column.name]:
                yield f"key ({self.quote(column.name)})"  # the server requires an index

    def table_options(self, table: PortableTable) -> str:
        options = f" engine=InnoDB row_format=dynamic default charset=utf8mb4 collate={self._server.exact_collation}"
        is_carried = table.comment and self.can_comment(table.comment, is_column=False)
        return f"{options} comment={quote_literal(table.comment)}" if is_carried else options

    def can_comment(self, comment: str, *, is_column: bool) -> bool:
        # the meaning of a backslash depends on the session, and a comment cannot be an expression
        return "\\" not in comment and len(comment) <= (_COLUMN_COMMENT if is_column else _TABLE_COMMENT)

    def comment_clause(self, column: PortableColumn) -> str:
        is_carried = column.comment and self.can_comment(column.comment, is_column=True)
        return f"comment {quote_literal(column.comment)}" if is_carried else ""

    def collation_clause(self, table: PortableTable, column: PortableColumn, logical: LogicalType) -> str:
        del table
        if logical.kind == "uuid" and not self._server.has_uuid_type:
            return "character set ascii collate ascii_bin"
        if column.ignores_case and logical.kind == "text":
            return f"collate {_find_folding_collation(self._server)}"
        return ""

    def text_literal(self, value: str) -> str:
        if "\\" not in value:
            return super().text_literal(value)
        # its meaning depends on the session, also where the server stores the expression as text
        parts = [super(MySQLDerivation, self).text_literal(part) for part in value.split("\\")]
        return f"concat({', char(92 using utf8mb4), '.join(parts)})"

    def default_clause(self, expression: str, kind: LogicalKind, *, is_literal: bool) -> str:
        # long texts, bytes and JSON have only expressions as defaults
        return super().default_clause(expression, kind, is_literal=is_literal and kind in _LITERAL_KINDS)

    def type_checks(self, column: PortableColumn) -> Iterator[str]:
        del column
        yield from ()

    def _generated(self, table: PortableTable, column: PortableColumn) -> str:
        clause = super()._generated(table, column)
        padded = [each.name for each in table.columns if self.column_type(table, each)[0].startswith("char(")]
        names = [name for name in padded if self.quote(name) in clause]
        if names and self._server.is_mariadb:
            # its blanks would depend on the mode of the session
            reason = (
                f"the server refuses the text of {names[0]}, of type CHAR; the computed values are copied"
            )
            self.omit("generated column", column.name, reason, table.name)
            return ""
        return clause

    def key_list(self, table: PortableTable) -> str:
        terms = [IndexTerm(column=name) for name in table.key]
        if sum(self._term_bytes(table, term) for term in terms) > _KEY_BYTES:
            reason = "its columns are longer than 3072 bytes; it compares their first characters"
            self.omit("primary key", ", ".join(table.key), reason, table.name)
        return ", ".join(self._key_term(table, term, self.quote(term.column), terms) for term in terms)

    def can_refer(self, source: PortableColumn, target: PortableColumn) -> bool:
        is_integer = source.type.kind == "integer"
        if is_integer and (source.type.bits, source.type.is_unsigned) != (
            target.type.bits,
            target.type.is_unsigned,
        ):
            return False
        return super().can_refer(source, target) and source.ignores_case == target.ignores_case

    def reference_clause(self, table: PortableTable, reference: SchemaReference) -> str:
        name = ", ".join(reference.columns)
        if reference.deferred:
            self.omit("deferred check", name, "the server checks foreign keys at each statement", table.name)
        actions = {"SET DEFAULT": "NO ACTION"}
        if "SET DEFAULT" in (reference.on_delete, reference.on_update):
            self.omit("foreign key action", name, "the server has no SET DEFAULT", table.name)
        on_update = actions.get(reference.on_update, reference.on_update)
        if on_update == "CASCADE" and self._server.is_mariadb and self._may_become_null(table, reference):
            reason = "MariaDB has no ON UPDATE CASCADE from NOT NULL to a column with NULL"
            self.omit("foreign key action", name, reason, table.name)
            on_update = "NO ACTION"
        return super().reference_clause(
            table,
            msgspec.structs.replace(
                reference,
                deferred=False,
                on_delete=actions.get(reference.on_delete, reference.on_delete),
                on_update=on_update,
            ),
        )

    def _may_become_null(self, table: PortableTable, reference: SchemaReference) -> bool:
        """Whether a column that is NOT NULL refers to one that is not."""
        parent = next(each for each in self._schema.tables if each.name == reference.table)
        pairs = zip(reference.columns, reference.to, strict=True)
        return any(not table.column(name).is_nullable and parent.column(to).is_nullable for name, to in pairs)

    def create_index(self, table: PortableTable, index: PortableIndex) -> Iterator[str]:
        if self._server.is_mariadb and any(term.expression for term in index.terms):
            self.omit("index", index.name, "MariaDB has no indexes of expressions", table.name)
            return
        is_unique, size = index.is_unique, sum(self._term_bytes(table, term) for term in index.terms)
        if is_unique and size > _KEY_BYTES:
            reason = "its columns are longer than 3072 bytes; the index is created, but is not unique"
            columns = ", ".join(term.column or term.expression for term in index.terms)
            self.omit("unique index", index.name or columns, reason, table.name)
            is_unique = False
        if index.where and not is_unique:
            self.omit("index condition", index.name, "the server indexes all rows", table.name)

        def write(term: IndexTerm, expression: str) -> str:
            return self._key_term(table, term, expression, index.terms, is_unique=is_unique)

        name, table_name = self.index_name(table, index), self.quote(table.name)
        try:
            terms = self.write_terms(table, index, write)
            if is_unique and index.where:
                # NULL is never a duplicate, so a column that is NULL in all other rows limits the index to some rows
                condition = self.expressions(table).translate_condition(index.where)
                marker = self.quote(self._marker_name(table, index))
                yield (
                    f"alter table {table_name} add column {marker} tinyint"
                    f" generated always as (case when {condition} then 1 end) virtual invisible"
                )
                terms += f", {marker}"
        except UntranslatableError as error:
            self.omit("index", index.name, str(error), table.name)
            return
        yield f"alter table {table_name} add {'unique ' if is_unique else ''}index {name} ({terms})"

    def _marker_name(self, table: PortableTable, index: PortableIndex) -> str:
        """Return the name of a column that marks the rows of an index."""
        names = {column.name.lower() for column in table.columns}
        candidates = (self.names.shorten(f"{index.name}_rows{number or ''}") for number in count())
        return next(name for name in candidates if name.lower() not in names)

    def name_size(self, name: str) -> int:
        return len(name)

    def _term_bytes(self, table: PortableTable, term: IndexTerm) -> int:
        logical = self._types[table.name].get(term.column)
        if logical is None or logical.kind not in ("text", "bytes", "json"):
            return _OTHER_BYTES
        length = logical.length or _KEY_BYTES
        return length if logical.kind == "bytes" else length * CHARACTER_BYTES

    def _key_term(
        self,
        table: PortableTable,
        term: IndexTerm,
        expression: str,
        terms: Sequence[IndexTerm],
        *,
        is_unique: bool = True,
    ) -> str:
        """Return a term of an index; texts and bytes are indexed by their beginning if all columns are too long together."""
        logical = self._types[table.name].get(term.column)
        if logical is None or logical.kind not in ("text", "bytes", "json"):
            return expression
        limit = _KEY_BYTES // CHARACTER_BYTES // len(terms)
        if is_unique and sum(self._term_bytes(table, each) for each in terms) <= _KEY_BYTES:
            limit = _KEY_BYTES
        elif not is_unique:
            limit = min(_PREFIX, limit)
        declared = self.column_type(table, table.column(term.column))[0]
        is_short = (
            declared.startswith(("varchar", "char", "varbinary", "binary")) and (logical.length or 0) <= limit
        )
        if is_short:
            return expression
        return f"{expression}({min(term.prefix or limit, limit)})"


def _limit_lengths(table: PortableTable) -> dict[str, int]:
    """Return lengths for texts and bytes without a limit that are part of keys, so that each key is small enough."""
    lengths: dict[str, int] = {}
    for key in _find_keys(table):
        columns = [column for column in table.columns if column.name in key]
        unlimited = [column.name for column in columns if _is_unlimited(column.type)]
        used = sum(_size(column.type) for column in columns if column.name not in unlimited) + _OTHER_BYTES
        for name in unlimited:
            available = max((_KEY_BYTES - used) // CHARACTER_BYTES // len(unlimited), 1)
            lengths[name] = min(lengths.get(name, available), available)
    return lengths


def _is_unlimited(logical: LogicalType) -> bool:
    return logical.kind in ("text", "bytes", "any", "other", "array") and logical.length is None


def _size(logical: LogicalType) -> int:
    if logical.kind == "text":
        return (logical.length or 0) * CHARACTER_BYTES
    return logical.length or 0 if logical.kind == "bytes" else _OTHER_BYTES


def _find_keys(table: PortableTable) -> Iterator[Sequence[str]]:
    """Yield the columns of each key, unique index and foreign key."""
    yield table.key
    for index in table.indexes:
        if index.is_unique:
            yield [term.column for term in index.terms]
    for reference in table.references:
        yield reference.columns


def _find_longest_varchar(table: PortableTable, keys: Collection[str]) -> int:
    """Return the largest length for columns of type VARCHAR outside of keys so that a row is not too long."""
    texts = [column for column in table.columns if column.type.kind == "text"]

    def measure(limit: int) -> int:
        return sum(
            _size(column.type)
            for column in texts
            if column.name in keys or (column.type.length or 0) <= limit
        )

    return next((limit for limit in _VARCHAR_LENGTHS if measure(limit) <= _ROW_BYTES), 0)


_SINGLE_BITS, _FIRST_YEAR, _LARGEST_HOUR = 32, 1, 838
#: A day of the calendar; the server also stores days without year, month or day.
_IS_DAY = "{0} >= '0001-01-01' and month({0}) > 0 and dayofmonth({0}) > 0"


def _check_decimal(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str | None:
    return None if limits.exact_digits is not None else limit_decimal(source, destination)


def _check_real(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str | None:
    del limits
    return None if destination.bits == _SINGLE_BITS < source.bits else ""


def _check_time(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str | None:
    if destination.fraction < source.fraction:
        return None
    if source.kind == "time" and limits.max_time and source.fraction:
        return f"abs(time_to_sec({{0}})) <= time_to_sec('{limits.max_time.decode()}')"
    if source.kind == "time":
        return "" if limits.max_hours >= _LARGEST_HOUR else "{0} >= '00:00:00' and {0} < '24:00:00'"
    first, last = limits.years_of(destination)
    years = "" if first <= _FIRST_YEAR else f" and year({{0}}) between {first} and {last}"
    return _IS_DAY + years


def _check_json(source: LogicalType, destination: LogicalType, limits: StorageLimits) -> str:
    if destination.json_form == "text":
        return ""
    conditions = [] if limits.stores_nul else ["instr({0}, concat(char(92), 'u0000')) = 0"]
    if source.json_form == "text":  # MariaDB also accepts a point without a digit after it
        numbers = f"{match_large_numbers(destination.json_form)}|[0-9][.]([^0-9]|$)"
        conditions.append(f"{{0}} not regexp '{numbers}'")
    return " and ".join(conditions)


class MySQLValueScreen(ServerValueScreen):
    length, size = "char_length({0})", "length(convert({0} using utf8mb4))"
    has_no_nul = "instr({0}, char(0)) = 0"
    conditions: Mapping[LogicalKind, FindCondition] = {
        "boolean": lambda _source, _destination, _limits: "{0} in (0, 1)",
        "integer": check_integer,
        "decimal": _check_decimal,
        "real": _check_real,
        "date": _check_time,
        "time": _check_time,
        "timestamp": _check_time,
        "bytes": check_bytes,
        "json": _check_json,
        "uuid": lambda _source, _destination, _limits: "",
        "enum": lambda _source, destination, _limits: match_labels(destination),
    }
