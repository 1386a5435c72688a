"""Compare two schemas part by part, with the severity of each difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from dbctl.engines.contract.schema import (
    WRITE_LOCK,
    Schema,
    SchemaCode,
    SchemaColumn,
    SchemaIndex,
    SchemaReference,
    SchemaTable,
)
from dbctl.model import Severity, Struct


class Part(NamedTuple):
    """Key of a part of a schema; names are in lower case, because engines ignore case."""

    kind: Literal[
        "table",
        "column",
        "order",
        "key",
        "index",
        "reference",
        "check",
        "option",
        "view",
        "trigger",
        "partition",
        "rule",
        "statistics",
    ]
    table: str
    name: str = ""


Parts: TypeAlias = Mapping[Part, object]
#: A name, or a kind and a name.
ObjectName = TypeVar("ObjectName", str, tuple[str, str])
ObjectChange: TypeAlias = Literal["missing", "different", "extra"]


class Difference(Struct, frozen=True):
    """One difference; each side is described as text, which is empty if the part is missing."""

    part: Part
    severity: Severity
    place: str  #: ``table``, ``table.column``, or a name with its kind
    expected: str = ""
    actual: str = ""

    @property
    def code(self) -> str:
        """``column-missing``, ``index-extra``, ``trigger-differs``."""
        kind = "missing" if not self.actual else "extra" if not self.expected else "differs"
        return f"{self.part.kind}-{kind}"


#: Severity of a missing part and of an extra part. An error makes the app fail or store invalid rows, so a missing
#: constraint is as severe as a missing column. A missing index only costs time; an extra part is usually harmless.
SEVERITIES: Mapping[str, tuple[Severity, Severity]] = {
    "table": ("error", "info"),
    "column": ("error", "warning"),
    "index": ("warning", "info"),
    "reference": ("error", "warning"),
    "check": ("error", "warning"),
    "option": ("warning", "warning"),
    "view": ("error", "info"),
    "trigger": ("error", "warning"),
    "partition": ("error", "info"),
    "rule": ("error", "warning"),
    "statistics": ("warning", "info"),
}


def split_schema(schema: Schema, excluded: Collection[str] = ()) -> Parts:
    """Return the parts of a schema, without the ``excluded`` tables and their parts."""
    excluded_names = {name.lower() for name in excluded if name}
    parts: dict[Part, object] = {}
    for table in schema.tables:
        if table.name.lower() not in excluded_names:
            parts |= _split_table(table)
    for code in schema.codes:
        is_of_transfer = code.name.startswith(WRITE_LOCK)
        if code.table.lower() not in excluded_names and not is_of_transfer:
            parts[Part(code.kind, code.table.lower(), code.name.lower())] = code
    return parts


def _split_table(table: SchemaTable) -> dict[Part, object]:
    name = table.name.lower()
    parts: dict[Part, object] = {Part("table", name): table}
    if not table.columns:  # only its text is available
        return parts
    parts |= {Part("column", name, column.name.lower()): column for column in table.columns}
    parts[Part("order", name)] = [column.name.lower() for column in table.columns]
    parts[Part("key", name)] = [column.lower() for column in table.key]
    parts |= {Part("index", name, key): index for key, index in _iterate_indexes(table)}
    parts |= {
        Part("reference", name, ", ".join(reference.columns).lower()): reference
        for reference in table.references
    }
    parts |= {Part("check", name, check): check for check in table.checks}
    parts |= {Part("option", name, option): option for option in table.options}
    return parts


def _iterate_indexes(table: SchemaTable) -> Iterator[tuple[str, SchemaIndex]]:
    """Yield the indexes of a table with unique keys; constraints have no names and may be repeated."""
    seen = Counter[str]()
    for index in table.indexes:
        key = index.name.lower() or describe_part(index).lower()
        seen[key] += 1
        yield (f"{key} #{seen[key]}" if seen[key] > 1 else key), index


def compare(expected: Parts, actual: Parts) -> Iterator[Difference]:
    """Yield every difference, in the order of the parts; a missing table is reported once."""
    missing = [
        part for part in expected if part not in actual and not _is_in_missing_table(part, expected, actual)
    ]
    extra = [
        part for part in actual if part not in expected and not _is_in_missing_table(part, actual, expected)
    ]
    for part in list(missing):
        counterpart = _find_counterpart(part, expected, actual, missing, extra)
        if counterpart is None:
            continue
        missing.remove(part)
        if counterpart in extra:
            extra.remove(counterpart)
        yield _create_renamed(part, expected[part], actual[counterpart])
    for part in expected:
        if part in missing:
            yield _create_missing(part, expected[part])
        elif part in actual:
            yield from _compare_part(part, expected[part], actual[part])
    for part in extra:
        yield _create_extra(part, actual[part])


def compare_objects(
    expected: Mapping[ObjectName, object], actual: Mapping[ObjectName, object]
) -> Iterator[tuple[ObjectName, ObjectChange]]:
    """Yield the objects that differ, sorted by name; their values are definitions or digests of them, not described as text."""
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual or expected.get(name) != actual[name]:
            yield name, "missing" if name not in actual else "different" if name in expected else "extra"


def describe_difference(difference: Difference) -> str:
    """Return one difference as text: the object, the live schema, the migrations."""
    if not difference.actual:
        return f"{difference.place} is missing"
    if not difference.expected:
        return f"{difference.place} is extra: {difference.actual}"
    return f"{difference.place}: {difference.actual} in the database, {difference.expected} in the migrations"


def _is_in_missing_table(part: Part, parts: Parts, other_parts: Parts) -> bool:
    """Return whether the part belongs to a table that the other side lacks or has only as text."""
    table = Part("table", part.table)
    if part.kind in ("table", "view") or table not in parts:
        return False
    other_table = other_parts.get(table)
    return other_table is None or (isinstance(other_table, SchemaTable) and not other_table.columns)


def _find_counterpart(
    part: Part, expected: Parts, actual: Parts, missing: Sequence[Part], extra: Sequence[Part]
) -> Part | None:
    """Return the same part with another name: an equal index, or the only other check."""
    value = expected[part]
    if isinstance(value, SchemaIndex):
        same = [
            other
            for other, index in actual.items()
            if isinstance(index, SchemaIndex)
            and other.table == part.table
            and describe_part(index) == describe_part(value)
        ]
        return min(same, key=lambda other: other not in extra, default=None)
    missing_checks = [other for other in missing if other[:2] == part[:2]]
    extra_checks = [other for other in extra if other[:2] == part[:2]]
    return extra_checks[0] if part.kind == "check" and len(missing_checks) == len(extra_checks) == 1 else None


def _create_renamed(part: Part, expected: object, actual: object) -> Difference:
    if not (isinstance(expected, SchemaIndex) and isinstance(actual, SchemaIndex)):
        return Difference(part, "error", f"a check of {part.table}", str(expected), str(actual))
    descriptions = (f"{index.name or 'a constraint'} {describe_part(index)}" for index in (expected, actual))
    return Difference(part, "info", f"an index of {part.table}", *descriptions)


def _create_missing(part: Part, expected: object) -> Difference:
    severity = SEVERITIES[part.kind][0]
    if isinstance(expected, SchemaIndex) and expected.unique:
        severity = "error"  # it is a constraint
    return Difference(part, severity, _describe_place(part, expected), expected=describe_part(expected))


def _create_extra(part: Part, actual: object) -> Difference:
    severity = SEVERITIES[part.kind][1]
    match actual:
        case SchemaIndex(unique=True):
            severity = "warning"  # it may reject writes of the app
        case SchemaColumn(nullable=False, generated="", default=None):
            severity = "error"  # it rejects every new row of the app
    return Difference(part, severity, _describe_place(part, actual), actual=describe_part(actual))


def _compare_part(part: Part, expected: object, actual: object) -> Iterator[Difference]:
    texts = describe_part(expected), describe_part(actual)
    place = _describe_place(part, expected)
    match expected, actual:
        case SchemaColumn(), SchemaColumn():
            yield from _compare_columns(part, place, expected, actual)
        case SchemaTable(), SchemaTable():
            yield from _compare_tables(part, expected, actual)
        case SchemaIndex(), SchemaIndex() if texts[0] != texts[1]:
            severity: Severity = "error" if expected.unique or actual.unique else "warning"
            yield Difference(part, severity, place, *texts)
        case (SchemaReference(), SchemaReference()) | (SchemaCode(), SchemaCode()) if texts[0] != texts[1]:
            yield Difference(part, SEVERITIES[part.kind][0], place, *texts)
        case list(), list() if expected != actual and part.kind == "key":
            yield Difference(part, "error", f"the primary key of {part.table}", *texts)
        case list(), list() if expected != actual and set(expected) == set(actual):
            yield Difference(part, "info", f"the order of columns in {part.table}", *texts)


def _compare_tables(part: Part, expected: SchemaTable, actual: SchemaTable) -> Iterator[Difference]:
    by_text = not (expected.columns and actual.columns)
    if by_text and (expected.columns or actual.columns or expected.options != actual.options):
        descriptions = (", ".join(table.options) or "a plain table" for table in (expected, actual))
        yield Difference(part, "error", f"table {part.table}", *descriptions)
    if expected.name != actual.name:
        place = f"the spelling of table {part.table}"
        yield Difference(part, "warning", place, expected.name, actual.name)


def _compare_columns(
    part: Part, place: str, expected: SchemaColumn, actual: SchemaColumn
) -> Iterator[Difference]:
    severities: dict[str, Severity] = {
        "type": "info" if expected.storage == actual.storage else "error",
        "nullable": "error" if actual.nullable or actual.default is None else "warning",
        "default": "error" if actual.default is None and not actual.nullable else "warning",
        "collation": "error",
        "generated": "error",
        "name": "warning",
    }
    for field, severity in severities.items():
        values = getattr(expected, field), getattr(actual, field)
        if values[0] != values[1]:
            descriptions = (_describe_field(field, value) for value in values)
            yield Difference(part, severity, place, *descriptions)


def _describe_field(field: str, value: object) -> str:
    """Return one field of a column as text."""
    if field == "nullable":
        return "null is allowed" if value else "not null"
    word = {"name": "spelt", "generated": "generated as"}.get(field, field)
    return f"{word} {value}" if value else f"no {word}"


def _describe_place(part: Part, value: object) -> str:
    """Return the name of a part for messages, with its table if the name does not contain it."""
    match value:
        case SchemaColumn():
            return f"{part.table}.{value.name}"
        case SchemaTable():
            return f"table {value.name}"
        case SchemaIndex():
            return (
                f"index {value.name} of {part.table}"
                if value.name
                else f"a unique constraint of {part.table}"
            )
        case SchemaReference():
            return f"a foreign key of {part.table}"
        case SchemaCode():
            return f"{value.kind} {value.name}{f' of {value.table}' if value.table else ''}"
    return f"{'a check' if part.kind == 'check' else 'an option'} of {part.table}"


def describe_part(value: object) -> str:
    """Return the definition of a part as text, without the name of an index or a foreign key."""
    match value:
        case SchemaColumn():
            words = [value.type, "" if value.nullable else "not null"]
            words += [f"default {value.default}"] if value.default is not None else []
            words += [f"collate {value.collation}"] if value.collation else []
            words += [f"generated as {value.generated}"] if value.generated else []
            return " ".join(filter(None, words)) or "no type"
        case SchemaTable():
            return ", ".join(column.name for column in value.columns) or ", ".join(value.options)
        case SchemaIndex():
            where = f" where {value.where}" if value.where else ""
            return f"{'unique ' if value.unique else ''}({', '.join(value.columns)}){where}"
        case SchemaReference():
            keys = f"({', '.join(value.columns)}) references {value.table} ({', '.join(value.to)})"
            acts = [f"on update {value.on_update}"] * (value.on_update != "NO ACTION")
            acts += [f"on delete {value.on_delete}"] * (value.on_delete != "NO ACTION")
            acts += ["deferred"] * value.deferred
            return " ".join([keys, *acts]).lower()
        case SchemaCode():
            return value.text
    return ", ".join(value) if isinstance(value, list) else str(value)
