"""Parts of a schema in words, as a difference between two tells them."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.engines.schema import SchemaCode, SchemaColumn, SchemaIndex, SchemaReference, SchemaTable


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
