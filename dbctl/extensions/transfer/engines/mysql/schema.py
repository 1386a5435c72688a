"""Read the schema of a MySQL or MariaDB database for other engines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

import msgspec

from dbctl.engines.contract.schema import SchemaTable
from dbctl.engines.mysql.catalog import INDEX_SQL, INDEXES, NOT_ENFORCED, SCHEMA_COLUMNS, SCHEMA_TABLES, VIEWS
from dbctl.engines.mysql.database import MySQLDatabase, MySQLPart
from dbctl.engines.mysql.opening import quote
from dbctl.engines.mysql.session import FOLDS
from dbctl.engines.mysql.values import BITS, SHAPE, UNICODE_CHARSETS, normalize_type, parse_labels, unescape
from dbctl.engines.parsing.statements import unquote_name
from dbctl.engines.servers.database import NamedRow, Rows, group_rows
from dbctl.engines.sql.catalog import quote_literal
from dbctl.extensions.transfer.portable.contract import (
    DerivedSchema,
    IndexTerm,
    LogicalKind,
    LogicalType,
    Omission,
    PortableColumn,
    PortableIndex,
    PortableSchema,
    PortableSchemas,
    PortableTable,
    PortableView,
    StorageLimits,
)
from dbctl.extensions.transfer.portable.read import (
    interpret_constraints,
    list_omissions,
    parse_declared,
    simplify_actions,
    strip_parentheses,
)
from dbctl.model import TimeForm

#: Sizes of text and bytes; the names of both types have the same beginnings.
_SIZES = {"TINY": (1 << 8) - 1, "": (1 << 16) - 1, "MEDIUM": (1 << 24) - 1, "LONG": None}
_REALS = {"FLOAT": 32, "DOUBLE": 64}
TYPES: Mapping[str, LogicalType] = {
    "TINYINT(1)": LogicalType(kind="boolean"),
    **{name: LogicalType(kind="integer", bits=bits) for name, bits in BITS.items()},
    **{
        f"{name} {words}": LogicalType(kind="integer", bits=bits, is_unsigned=True)
        for name, bits in BITS.items()
        for words in ("UNSIGNED", "UNSIGNED ZEROFILL")
    },
    "YEAR": LogicalType(kind="integer", bits=16),
    "BIT(1)": LogicalType(kind="boolean"),
    "BIT": LogicalType(kind="integer", is_unsigned=True),
    **dict.fromkeys(
        ["DECIMAL", "DECIMAL UNSIGNED", "DECIMAL UNSIGNED ZEROFILL"], LogicalType(kind="decimal", digits=10)
    ),
    **{
        # MariaDB shows negative zero as 0
        f"{name}{words}": LogicalType(kind="real", bits=bits, keeps_zero_sign=False)
        for name, bits in _REALS.items()
        for words in ("", " UNSIGNED", " UNSIGNED ZEROFILL")
    },
    "CHAR": LogicalType(kind="text", length=1),
    "VARCHAR": LogicalType(kind="text"),
    **{f"{name}TEXT": LogicalType(kind="text", max_bytes=size) for name, size in _SIZES.items()},
    "BINARY": LogicalType(kind="bytes", length=1, is_fixed=True),
    "VARBINARY": LogicalType(kind="bytes"),
    **{f"{name}BLOB": LogicalType(kind="bytes", length=size) for name, size in _SIZES.items()},
    "DATE": LogicalType(kind="date"),
    "TIME": LogicalType(kind="time", fraction=0),
    "DATETIME": LogicalType(kind="timestamp", fraction=0),
    "TIMESTAMP": LogicalType(kind="timestamp", fraction=0, has_zone=True),
    "JSON": LogicalType(kind="json", json_form="float"),  # MariaDB has text with a check
    "UUID": LogicalType(kind="uuid"),
    **dict.fromkeys(["INET4", "INET6"], LogicalType(kind="text", length=39)),
}
#: Bytes of a character in utf8mb4.
CHARACTER_BYTES = 4
#: Texts up to this length are VARCHAR, because the sizes of all columns of a table have a limit.
LONGEST_VARCHAR = 2000
_LONGEST_CHAR = 255
_MAX_DIGITS, _MAX_SCALE = 65, 38
_NAMES: Mapping[LogicalKind, str] = {
    "boolean": "tinyint(1)",
    "array": "longtext",
    "any": "longtext",
    "other": "longtext",
    "bits": "varchar(255)",
    "real": "double",
    "date": "date",
    "json": "json",
    "uuid": "char(36)",
}


def read_type(declared: str, labels: list[str]) -> LogicalType:
    """Return the logical type of a type of the catalog, in upper case except for its labels."""
    if declared.startswith("ENUM("):
        return LogicalType(kind="enum", labels=labels)
    if declared.startswith("SET("):
        return LogicalType(kind="set", labels=labels)
    if _has_own_bytes(declared):
        return LogicalType(kind="bytes")
    return parse_declared(declared, TYPES) or LogicalType(kind="other", name=declared)


def _has_own_bytes(declared: str) -> bool:
    """Whether values of a type are bytes that only this server reads: points and other shapes, and vectors."""
    return declared.startswith("VECTOR") or SHAPE.fullmatch(declared) is not None


def write_type(logical: LogicalType) -> str:
    """Return the type for values of a logical type, in lower case except for labels."""
    write = _WRITERS.get(logical.kind)
    return write(logical) if write else _NAMES[logical.kind]


def _write_integer(logical: LogicalType) -> str:
    name = next(name for name, bits in BITS.items() if bits >= logical.bits).lower()
    return f"{name} unsigned" if logical.is_unsigned else name


def _write_decimal(logical: LogicalType) -> str:
    digits, scale = (logical.digits, logical.scale) if logical.digits else (_MAX_DIGITS, 30)
    return f"decimal({min(digits, _MAX_DIGITS)},{min(scale, _MAX_SCALE)})"


def _write_time(logical: LogicalType) -> str:
    name = "datetime" if logical.kind == "timestamp" else "time"
    return f"{name}({logical.fraction})" if logical.fraction else name


def _write_labels(logical: LogicalType) -> str:
    return f"{logical.kind}({', '.join(map(quote_literal, logical.labels))})"


def _write_text(logical: LogicalType) -> str:
    if logical.length is None:
        return _smallest("text", logical.max_bytes)
    if logical.length > LONGEST_VARCHAR:
        return _smallest("text", logical.length * CHARACTER_BYTES)
    is_char = logical.is_fixed and logical.length <= _LONGEST_CHAR
    return f"{'char' if is_char else 'varchar'}({logical.length})"


def _write_bytes(logical: LogicalType) -> str:
    if logical.length is None or logical.length > LONGEST_VARCHAR:
        return _smallest("blob", logical.length)
    is_binary = logical.is_fixed and logical.length <= _LONGEST_CHAR
    return f"{'binary' if is_binary else 'varbinary'}({logical.length})"


def _smallest(kind: str, size: int | None) -> str:
    """Return the smallest long type for a number of bytes; TINYTEXT is as large as a short VARCHAR."""
    beginnings = [
        name
        for name, largest in _SIZES.items()
        if name != "TINY" and largest and size is not None and size <= largest
    ]
    return f"{(beginnings or ['LONG'])[0]}{kind}".lower()


_WRITERS: Mapping[LogicalKind, Callable[[LogicalType], str]] = {
    "integer": _write_integer,
    "decimal": _write_decimal,
    "text": _write_text,
    "bytes": _write_bytes,
    "time": _write_time,
    "timestamp": _write_time,
    "enum": _write_labels,
    "set": _write_labels,
}


OMISSIONS = """select lower(routine_type) as kind, routine_name as name, 'routines have to be written again' as reason
from information_schema.routines where routine_schema = database()
union all select 'event', event_name, 'events have to be written again' from information_schema.events where event_schema = database()
union all select 'system versioning', table_name, 'its earlier rows are not copied' from information_schema.tables
  where table_schema = database() and table_type = 'SYSTEM VERSIONED'
union all select 'sequence', table_name, 'no column owns it' from information_schema.tables
  where table_schema = database() and table_type = 'SEQUENCE' order by 1, 2"""
COUNTERS = """select table_name, auto_increment from information_schema.tables
where table_schema = database() and auto_increment is not null"""
COLLATION = """select character_set_name, collation_name from information_schema.columns
where table_schema = database() and table_name = :table and column_name = :column"""
#: Methods of indexes that other engines have, too.
SORTED = frozenset({"BTREE", "HASH"})
#: Defaults of bytes that the catalog contains as they are.
_KNOWN_BYTES = re.compile(r"0x[0-9A-Fa-f]*|[xX]'[0-9A-Fa-f]*'|NULL|'[ !#-&(->@-\[\]-~]*'|[ !#-&(->@-\[\]-~]*")
#: Collations, by their names.
_IGNORES_ACCENTS, _KEEPS_SPACES = re.compile("(?<!_as)_ci"), re.compile("_nopad_|_0900_")
_TEXT_OR_NAME = re.compile(r"""'(?:[^'\\]|\\.|'')*'|(?P<name>"(?:[^"]|"")*")""", re.DOTALL)
_PREFIX = re.compile(r"\((\d+)\)(?: desc)?$")


class MySQLPortableSchemas(MySQLPart, PortableSchemas):
    #: those of a current MariaDB
    limits = StorageLimits(
        stores_zero_dates=True,
        stores_nan=False,
        stores_infinity=False,
        stores_all_uuids=False,
        zoned_years=(1970, 2037),
        max_hours=838,
        json_levels=31,
    )

    def __init__(self, db: MySQLDatabase) -> None:
        super().__init__(db)
        server = self._connection.server
        if not server.has_uuid_type:
            self.limits = msgspec.structs.replace(
                self.limits, json_levels=31 if server.is_mariadb else 100, stores_all_uuids=True
            )
        if not server.is_mariadb:
            self.limits = msgspec.structs.replace(self.limits, max_time=b"838:59:59")

    def read_portable(self) -> PortableSchema:
        fetch = self._connection.fetch_by_name
        is_mariadb = self._connection.server.is_mariadb
        with self._connection.read_transaction():
            schema = self._db.schema_reader.schema()
            columns = group_rows(fetch(SCHEMA_COLUMNS))
            indexes = group_rows(fetch(INDEXES.format(*INDEX_SQL[is_mariadb])))
            views = list(fetch(VIEWS))
            omissions = [Omission(**row) for row in fetch(OMISSIONS)]
            comments = {row["name"]: row["comment"] for row in fetch(SCHEMA_TABLES)}
            if not is_mariadb:
                self._complete_bytes(columns)
        omissions += list_omissions(schema, views)
        for table in schema.tables:
            omissions += _find_omissions(table.name, columns[table.name], indexes[table.name])
            omissions += (
                Omission(kind="check", name=check, table=table.name, reason="it is not enforced")
                for check in table.checks
                if check.endswith(NOT_ENFORCED)
            )
        return PortableSchema(
            dialect="mysql",
            tables=[
                msgspec.structs.replace(
                    _build_table(table, columns[table.name], indexes[table.name], is_mariadb=is_mariadb),
                    comment=comments[table.name],
                )
                for table in schema.tables
            ],
            views=[PortableView(name=row["name"], query=row["text"]) for row in views],
            omissions=omissions,
        )

    def _complete_bytes(self, columns: Mapping[str, Rows]) -> None:
        """Compute the defaults of bytes, which the catalog of MySQL ends at their first zero byte."""
        for table, rows in columns.items():
            cut = [row for row in rows if _is_binary(row) and _has_hexadecimal_default(row)]
            if cut:
                defaults = ", ".join(f"hex(default(t.{quote(row['name'])}))" for row in cut)
                # without a row of the table, which may be empty
                sql = f"select {defaults} from (select 1 as n) one left join {quote(table)} t on false"
                ((*digits,),) = self._connection.fetch(sql)
                for row, text in zip(cut, digits, strict=True):
                    row["default"] = f"0x{text}"

    def derive(self, schema: PortableSchema, *, time_form: TimeForm = "sqlite-time") -> DerivedSchema:
        del time_form  # columns have types for times
        from dbctl.extensions.transfer.engines.mysql.derive import MySQLDerivation

        derivation = MySQLDerivation(schema, self._connection.server)
        for name in self._connection.list_folded_names(table.name for table in schema.tables):
            derivation.omit("table", name, f"the destination {FOLDS}", is_blocking=True)
        return derivation.derive()

    def fold_texts(self, table: str, column: str, texts: Sequence[str]) -> Sequence[str | bytes]:
        ((charset, collation),) = self._connection.fetch(COLLATION, {"table": table, "column": column})
        weight = f"weight_string(convert(convert(x'{{}}' using utf8mb4) using {charset}) collate {collation})"
        encoded = (text.encode("utf-8", "surrogateescape").hex() for text in texts)
        ((*weights,),) = self._connection.fetch(f"select {', '.join(map(weight.format, encoded))}")
        return [value if isinstance(value, bytes) else str(value) for value in weights]

    def read_counters(self) -> Mapping[str, int]:
        return {str(table): int(str(number)) for table, number in self._connection.fetch(COUNTERS)}

    def set_counters(self, numbers: Mapping[str, int]) -> Sequence[str]:
        known = self.read_counters()
        return [
            f"alter table {quote(table)} auto_increment = {number:d}"  # the server never sets it below the largest number
            for table, number in numbers.items()
            if table in known and number > 0
        ]


def _build_table(table: SchemaTable, columns: Rows, indexes: Rows, *, is_mariadb: bool) -> PortableTable:
    return interpret_constraints(
        PortableTable(
            name=table.name,
            columns=[_build_column(row, is_mariadb=is_mariadb) for row in columns],
            key=table.key,
            key_prefixes={
                row["column"]: int(prefix[1])
                for row in indexes
                if row["name"] == "PRIMARY" and (prefix := _PREFIX.search(row["term"]))
            },
            indexes=[
                _build_index(name, list(rows))
                for name, rows in groupby(
                    (row for row in indexes if row["kind"] in SORTED), key=itemgetter("name")
                )
                if name != "PRIMARY"
            ],
            references=[simplify_actions(reference) for reference in table.references],
            checks=[
                strip_parentheses(_read_expression(check, is_mariadb=is_mariadb))
                for check in table.checks
                if not check.endswith(NOT_ENFORCED)
            ],
        )
    )


def _build_column(row: NamedRow, *, is_mariadb: bool) -> PortableColumn:
    declared = normalize_type(row["type"])
    logical = read_type(declared, parse_labels(row["type"]))
    if row["charset"] not in UNICODE_CHARSETS and logical.kind == "text":
        logical = msgspec.structs.replace(logical, charset=row["charset"])
    return PortableColumn(
        name=row["name"],
        declared=declared,
        type=logical,
        is_nullable=bool(row["nullable"]),
        default="" if row["expression"] else _default(row, is_mariadb=is_mariadb),
        generated=_read_expression(row["expression"], is_mariadb=is_mariadb),
        is_stored="stored" in row["attributes"] or "persistent" in row["attributes"],
        is_automatic="auto_increment" in row["attributes"],
        ignores_case=logical.kind == "text" and "_ci" in row["collation"],
        ignores_accents=logical.kind == "text" and bool(_IGNORES_ACCENTS.search(row["collation"])),
        ignores_spaces=logical.kind == "text" and not _KEEPS_SPACES.search(row["collation"]),
        comment=row["comment"],
    )


def _default(row: NamedRow, *, is_mariadb: bool) -> str:
    """Return the default as SQL; MySQL stores literals without quotes."""
    default = row["default"]
    if default is None or (is_mariadb and default == "NULL") or _has_unknown_bytes(row):
        return ""
    if is_mariadb or "default_generated" in row["attributes"] or row["type"].startswith("bit"):
        return _read_expression(str(default), is_mariadb=is_mariadb)
    if _is_binary(row) and default.startswith("0x"):
        return f"x'{default[2:]}'"
    # in the dialect of the schema, a backslash begins an escape
    return quote_literal(str(default).replace("\\", "\\\\"))


def _is_binary(row: NamedRow) -> bool:
    return "binary" in row["type"] or "blob" in row["type"]


def _has_hexadecimal_default(row: NamedRow) -> bool:
    """Whether the catalog of MySQL has digits of a default that is no expression."""
    return (row["default"] or "").startswith("0x") and "default_generated" not in row["attributes"]


def _has_unknown_bytes(row: NamedRow) -> bool:
    """Whether a default has bytes that MariaDB replaces in its catalog; later versions write digits."""
    return bool(_is_binary(row) and row["default"] and not _KNOWN_BYTES.fullmatch(row["default"]))


def _read_expression(sql: str, *, is_mariadb: bool) -> str:
    """Return an expression of the catalog with names in backquotes.

    MariaDB writes names in the mode of the session, with double quotes, and escapes backslashes and line breaks of texts in every
    mode. MySQL writes the whole expression as the content of a text.
    """
    if not is_mariadb:
        return unescape(sql)
    return _TEXT_OR_NAME.sub(
        lambda match: quote(unquote_name(match["name"])) if match["name"] else match[0], sql
    )


def _build_index(name: str, parts: Rows) -> PortableIndex:
    terms = []
    for part in parts:
        prefix = _PREFIX.search(part["term"]) if part["column"] else None
        terms.append(
            IndexTerm(
                column=part["column"] or "",
                # only MySQL has expressions
                expression="" if part["column"] else unescape(part["term"].removesuffix(" desc")),
                is_descending=part["term"].endswith(" desc"),
                prefix=int(prefix[1]) if prefix else None,
            )
        )
    return PortableIndex(name=name, terms=terms, is_unique=bool(parts[0]["unique"]))


def _find_omissions(table: str, columns: Rows, indexes: Rows) -> Iterator[Omission]:
    for row in columns:
        if _has_unknown_bytes(row):
            reason = "the catalog does not contain its bytes"
            yield Omission(kind="default", name=row["name"], table=table, reason=reason)
        if "on update" in row["attributes"]:
            reason = "updates by the definition of a column are left out"
            yield Omission(
                kind="default", name=f"{row['name']}: {row['attributes']}", table=table, reason=reason
            )
        if "invisible" in row["attributes"] and not row["expression"]:
            yield Omission(kind="column", name=row["name"], table=table, reason="it becomes visible")
        declared = normalize_type(row["type"])
        has_own_bytes = _has_own_bytes(declared)
        if has_own_bytes or read_type(declared, []).kind == "other":
            stored = "bytes" if has_own_bytes else "text"
            reason = f"its type {row['type']} is left out; its values are stored as {stored}"
            yield Omission(kind="type", name=row["name"], table=table, reason=reason)
    for name, kind, comment in dict.fromkeys((row["name"], row["kind"], row["comment"]) for row in indexes):
        if comment:
            yield Omission(kind="index", name=name, table=table, reason="its comment is left out")
        if kind not in SORTED:
            reason = f"indexes of type {kind.lower()} are left out"
            yield Omission(kind="index", name=name, table=table, reason=reason)
