"""Two schemas compared part by part, with how grave each difference is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from dbctl.engines.contract import Schema, SchemaCode, SchemaColumn, SchemaIndex, SchemaReference, SchemaTable
from dbctl.model import Severity, Value


class Part(NamedTuple):
    """What is compared, and how both sides find it: names in lower case, as the engines compare them."""

    kind: Literal[
        "table", "column", "order", "key", "index", "reference", "check", "option", "view", "trigger"
    ]
    table: str
    name: str = ""


Parts: TypeAlias = Mapping[Part, object]


class Difference(Value, frozen=True, kw_only=True):
    """One difference. ``wanted`` and ``found`` are in words; empty where that side has nothing."""

    part: Part
    severity: Severity
    place: str  #: ``table``, ``table.column``, or a name with its kind
    wanted: str = ""
    found: str = ""

    @property
    def code(self) -> str:
        """``column-missing``, ``index-extra``, ``trigger-differs``."""
        how = "missing" if not self.found else "extra" if not self.wanted else "differs"
        return f"{self.part.kind}-{how}"


#: A part that is missing, or is there though nothing makes it. Grave is what makes the app fail or store what it must
#: not: a guard that is missing is as grave as a column. An index only makes slow; what is extra mostly harms nobody.
GRAVITY: Mapping[str, tuple[Severity, Severity]] = {
    "table": ("error", "info"),
    "column": ("error", "warning"),
    "index": ("warning", "info"),
    "reference": ("error", "warning"),
    "check": ("error", "warning"),
    "option": ("warning", "warning"),
    "view": ("error", "info"),
    "trigger": ("error", "warning"),
}


def parts(schema: Schema, leave_out: Collection[str] = ()) -> Parts:
    """Take a schema apart, without the tables ``leave_out`` and what belongs to them."""
    left_out = {name.lower() for name in leave_out if name}
    found: dict[Part, object] = {}
    for table in schema.tables:
        if table.name.lower() not in left_out:
            found |= _parts_of(table)
    for code in schema.codes:
        if code.table.lower() not in left_out:
            found[Part(code.kind, code.table.lower(), code.name.lower())] = code
    return found


def _parts_of(table: SchemaTable) -> dict[Part, object]:
    name = table.name.lower()
    found: dict[Part, object] = {Part("table", name): table}
    if not table.columns:  # it can be told by its text alone
        return found
    found |= {Part("column", name, column.name.lower()): column for column in table.columns}
    found[Part("order", name)] = [column.name.lower() for column in table.columns]
    found[Part("key", name)] = [column.lower() for column in table.key]
    found |= {Part("index", name, word): index for word, index in _indexes(table)}
    found |= {Part("reference", name, ", ".join(one.columns).lower()): one for one in table.references}
    found |= {Part("check", name, check): check for check in table.checks}
    found |= {Part("option", name, option): option for option in table.options}
    return found


def _indexes(table: SchemaTable) -> Iterator[tuple[str, SchemaIndex]]:
    """Yield the indexes of a table with what tells each from the others: constraints have no names, and may be repeated."""
    seen = Counter[str]()
    for index in table.indexes:
        word = index.name.lower() or index_of(index).lower()
        seen[word] += 1
        yield (f"{word} #{seen[word]}" if seen[word] > 1 else word), index


def compared(wanted: Parts, found: Parts) -> Iterator[Difference]:
    """Yield every difference, in the order of the parts; a table that one side lacks is told once."""
    lacking = [part for part in wanted if part not in found and not _inside(part, wanted, found)]
    extra = [part for part in found if part not in wanted and not _inside(part, found, wanted)]
    for part in list(lacking):
        other = _counterpart(part, wanted, found, lacking, extra)
        if other is None:
            continue
        lacking.remove(part)
        if other in extra:
            extra.remove(other)
        yield _changed_name(part, wanted[part], found[other])
    for part in wanted:
        if part in lacking:
            yield _lacking(part, wanted[part])
        elif part in found:
            yield from _differing(part, wanted[part], found[part])
    for part in extra:
        yield _extra(part, found[part])


def in_words(one: Difference) -> str:
    """Return one difference as a message tells it: the object, what is there, and what the migrations make."""
    if not one.found:
        return f"{one.place} is missing"
    if not one.wanted:
        return f"{one.place} is extra: {one.found}"
    return f"{one.place}: {one.found} here, {one.wanted} in the migrations"


def _inside(part: Part, here: Parts, there: Parts) -> bool:
    """Whether it belongs to a table that the other side does not have, or cannot tell further."""
    table = Part("table", part.table)
    if part.kind in ("table", "view") or table not in here:
        return False
    other = there.get(table)
    return other is None or (isinstance(other, SchemaTable) and not other.columns)


def _counterpart(
    part: Part, wanted: Parts, found: Parts, lacking: Sequence[Part], extra: Sequence[Part]
) -> Part | None:
    """Return what stands for a part under another name: an index that does the same, or the only other check."""
    one = wanted[part]
    if isinstance(one, SchemaIndex):
        same = [
            other
            for other, index in found.items()
            if isinstance(index, SchemaIndex)
            and other.table == part.table
            and index_of(index) == index_of(one)
        ]
        return min(same, key=lambda other: other not in extra, default=None)
    mine = [other for other in lacking if other[:2] == part[:2]]
    others = [other for other in extra if other[:2] == part[:2]]
    return others[0] if part.kind == "check" and len(mine) == len(others) == 1 else None


def _changed_name(part: Part, wanted: object, found: object) -> Difference:
    if isinstance(wanted, SchemaIndex) and isinstance(found, SchemaIndex):
        wants, finds = (f"{one.name or 'a constraint'} {index_of(one)}" for one in (wanted, found))
        return Difference(
            part=part, severity="info", place=f"an index of {part.table}", wanted=wants, found=finds
        )
    return Difference(
        part=part, severity="error", place=f"a check of {part.table}", wanted=str(wanted), found=str(found)
    )


def _lacking(part: Part, wanted: object) -> Difference:
    severity = GRAVITY[part.kind][0]
    if isinstance(wanted, SchemaIndex) and wanted.unique:
        severity = "error"  # it is a guard
    return Difference(
        part=part, severity=severity, place=place_of(part.kind, part.table, wanted), wanted=told_of(wanted)
    )


def _extra(part: Part, found: object) -> Difference:
    severity = GRAVITY[part.kind][1]
    if isinstance(found, SchemaIndex) and found.unique:
        severity = "warning"  # it may refuse what the app writes
    if isinstance(found, SchemaColumn) and not (found.nullable or found.generated) and found.default is None:
        severity = "error"  # every new row of the app is refused
    return Difference(
        part=part, severity=severity, place=place_of(part.kind, part.table, found), found=told_of(found)
    )


def _differing(part: Part, wanted: object, found: object) -> Iterator[Difference]:
    place = place_of(part.kind, part.table, wanted)
    match wanted, found:
        case SchemaColumn(), SchemaColumn():
            yield from _columns(part, wanted, found)
        case SchemaTable(), SchemaTable():
            yield from _tables(part, wanted, found)
        case SchemaIndex(), SchemaIndex() if index_of(wanted) != index_of(found):
            severity: Severity = "error" if wanted.unique or found.unique else "warning"
            yield _both(part, severity, place, index_of(wanted), index_of(found))
        case SchemaReference(), SchemaReference() if reference_of(wanted) != reference_of(found):
            yield _both(part, "error", place, reference_of(wanted), reference_of(found))
        case SchemaCode(), SchemaCode() if wanted.text != found.text:
            yield _both(part, "error", place, wanted.text, found.text)
        case list(), list() if wanted != found and part.kind == "key":
            yield _both(part, "error", f"the primary key of {part.table}", *map(listed, (wanted, found)))
        case list(), list() if wanted != found and set(wanted) == set(found):
            yield _both(part, "info", f"the order of columns in {part.table}", *map(listed, (wanted, found)))


def _both(part: Part, severity: Severity, place: str, wanted: str, found: str) -> Difference:
    return Difference(part=part, severity=severity, place=place, wanted=wanted, found=found)


def _tables(part: Part, wanted: SchemaTable, found: SchemaTable) -> Iterator[Difference]:
    by_text = not (wanted.columns and found.columns)
    if by_text and (wanted.columns or found.columns or wanted.options != found.options):
        told = (listed(one.options) or "a plain table" for one in (wanted, found))
        yield _both(part, "error", f"table {part.table}", *told)
    if wanted.name != found.name:
        yield _both(part, "warning", f"the spelling of table {part.table}", wanted.name, found.name)


def _columns(part: Part, wanted: SchemaColumn, found: SchemaColumn) -> Iterator[Difference]:
    place = place_of(part.kind, part.table, wanted)
    grave: dict[str, Severity] = {
        "type": "info" if wanted.storage == found.storage else "error",
        "nullable": "error" if found.nullable or found.default is None else "warning",
        "default": "error" if found.default is None and not found.nullable else "warning",
        "collation": "error",
        "generated": "error",
        "name": "warning",
    }
    for field, severity in grave.items():
        wants, finds = getattr(wanted, field), getattr(found, field)
        if wants != finds:
            yield _both(part, severity, place, *(aspect(field, value) for value in (wants, finds)))


def aspect(field: str, value: object) -> str:
    """Return one field of a column."""
    if field == "nullable":
        return "null is allowed" if value else "not null"
    word = {"name": "spelt", "generated": "generated as"}.get(field, field)
    return f"{word} {value}" if value else f"no {word}"


def place_of(kind: str, table: str, value: object) -> str:
    """Return where a part is: what it is called and, where that does not say it, the table that it belongs to."""
    if isinstance(value, SchemaColumn):
        return f"{table}.{value.name}"
    if isinstance(value, SchemaTable):
        return f"table {value.name}"
    if isinstance(value, SchemaIndex):
        return f"index {value.name} of {table}" if value.name else f"a unique constraint of {table}"
    if isinstance(value, SchemaReference):
        return f"a foreign key of {table}"
    if isinstance(value, SchemaCode):
        return f"{value.kind} {value.name}"
    return f"{'a check' if kind == 'check' else 'an option'} of {table}"


def told_of(value: object) -> str:
    """Return all that there is to tell of a part."""
    match value:
        case SchemaColumn():
            words = [value.type, "" if value.nullable else "not null"]
            words += [f"default {value.default}"] if value.default is not None else []
            words += [f"collate {value.collation}"] if value.collation else []
            words += [f"generated as {value.generated}"] if value.generated else []
            return " ".join(filter(None, words)) or "no type"
        case SchemaTable():
            return ", ".join(column.name for column in value.columns) or listed(value.options)
        case SchemaIndex():
            return index_of(value)
        case SchemaReference():
            return reference_of(value)
        case SchemaCode():
            return value.text
    return str(value)


def index_of(index: SchemaIndex) -> str:
    """Return what an index does, whatever it is called: two that do the same are told alike."""
    where = f" where {index.where}" if index.where else ""
    return f"{'unique ' if index.unique else ''}({', '.join(index.columns)}){where}"


def reference_of(one: SchemaReference) -> str:
    """Return what a foreign key does, as above; how names are spelt makes no difference."""
    acts = [f"on update {one.on_update}"] * (one.on_update != "NO ACTION")
    acts += [f"on delete {one.on_delete}"] * (one.on_delete != "NO ACTION")
    acts += ["deferred"] * one.deferred
    keys = f"({', '.join(one.columns)}) references {one.table} ({', '.join(one.to)})"
    return " ".join([keys, *acts]).lower()


def listed(names: Sequence[str]) -> str:
    """Return names with commas between."""
    return ", ".join(names)
