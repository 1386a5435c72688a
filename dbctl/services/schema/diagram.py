"""``schema diagram``: tables and their foreign keys as an entity relationship diagram of Mermaid."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from dbctl.engines.contract.database import require_supported
from dbctl.engines.contract.schema import Schema, SchemaReference, SchemaTable, strip_collation
from dbctl.model import Struct
from dbctl.services.app.app import App
from dbctl.services.app.results import missing_table_error
from dbctl.services.data.table import selected_database

#: Mermaid draws larger diagrams only if the page that shows them raises its limits.
MAX_CHARACTERS, MAX_RELATIONS = 50_000, 500
#: Characters that a quoted name of Mermaid cannot contain, or that have a meaning in it, and similar ones.
_SUBSTITUTES = str.maketrans(
    {
        '"': "'",
        "%": "\N{FULLWIDTH PERCENT SIGN}",
        "\\": "\N{FULLWIDTH REVERSE SOLIDUS}",
        "#": "\N{FULLWIDTH NUMBER SIGN}",
    }
)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
#: Mermaid reads these words as an instruction wherever they are in a line.
_INSTRUCTION = re.compile(r"(direction) +(?=TB|BT|RL|LR)", re.IGNORECASE)
#: Characters that the name and the type of a column cannot contain, because they cannot be quoted.
_NOT_IN_WORD = re.compile("[^A-Za-z0-9_\\-\\[\\]().,*\u00c0-\uffff]")
_WORD_START = re.compile("[*A-Za-z_\u00c0-\uffff]")
_KEY_WORD = re.compile(r"(?:PK|FK|UK)\b", re.IGNORECASE)


class SchemaDiagram(Struct, frozen=True, kw_only=True):
    """Result of ``schema diagram``."""

    target: str
    tables: int  #: entities
    relations: int  #: foreign keys
    mermaid: str  #: the text of the diagram

    @property
    def is_large(self) -> bool:
        """Whether Mermaid draws it only with raised limits."""
        return len(self.mermaid) > MAX_CHARACTERS or self.relations > MAX_RELATIONS


def draw_diagram(app: App, names: Sequence[str] = (), *, only_keys: bool = False) -> SchemaDiagram:
    """Return the diagram of all tables of one database, or of ``names`` with the tables next to them.

    Tables to which ``names`` refer, and those that refer to them, have no columns; with ``only_keys``, the others have only those of keys.

    Raises:
        TableMissingError: a table does not exist.
        NotSupportedError: the engine cannot describe its schema.
    """
    db = app.reader(selected_database(app))
    hint = "The engine cannot describe its schema."
    schema = require_supported(db, db.schema_reader, "drawing a schema", hint).schema()
    tables = {table.name: table for table in schema.tables}
    for name in names:
        if name not in tables:
            raise missing_table_error(app, db, name)
    relations = list(_list_relations(schema, frozenset(names)))
    neighbors = {name for relation in relations for name in (relation.parent, relation.child)}
    entities = _create_names([*(names or tables), *sorted(neighbors)])
    lines = ["erDiagram"]
    for name, entity in entities.items():
        table = tables.get(name) if not names or name in names else None
        attributes = list(_list_attributes(table, only_keys=only_keys)) if table else []
        lines += [f"    {entity} {{", *attributes, "    }"] if attributes else [f"    {entity}"]
    lines += [relation.draw(entities) for relation in relations]
    return SchemaDiagram(
        target=db.target, tables=len(entities), relations=len(relations), mermaid="\n".join(lines) + "\n"
    )


class _Relation(Struct, frozen=True, kw_only=True):
    """One foreign key."""

    parent: str
    child: str
    columns: Sequence[str]
    is_optional: bool  #: a row may refer to no row
    is_unique: bool  #: at most one row refers to a row
    is_identifying: bool  #: it is part of the primary key

    def draw(self, entities: Mapping[str, str]) -> str:
        parent_end, child_end = "|o" if self.is_optional else "||", "o|" if self.is_unique else "o{"
        line = "--" if self.is_identifying else ".."
        label = _quote(", ".join(self.columns))
        return f"    {entities[self.parent]} {parent_end}{line}{child_end} {entities[self.child]} : {label}"


def _list_relations(schema: Schema, selected: Collection[str]) -> Iterator[_Relation]:
    """Yield the foreign keys, or those from and to the selected tables."""
    spellings = {table.name.lower(): table.name for table in schema.tables}  # SQLite ignores case
    for table in schema.tables:
        for reference in table.references:
            parent = spellings.get(reference.table.lower(), reference.table)
            if not selected or parent in selected or table.name in selected:
                yield _create_relation(table, parent, reference)


def _create_relation(table: SchemaTable, parent: str, reference: SchemaReference) -> _Relation:
    columns = {column.lower() for column in reference.columns}
    return _Relation(
        parent=parent,
        child=table.name,
        columns=reference.columns,
        is_optional=any(column.nullable for column in table.columns if column.name.lower() in columns),
        is_unique=any(key <= columns for key in _list_unique_keys(table)),
        is_identifying=columns <= {strip_collation(column).lower() for column in table.key},
    )


def _list_unique_keys(table: SchemaTable) -> Iterator[set[str]]:
    """Yield the columns of each key, of which no two rows have the same values."""
    keys = [table.key, *(index.columns for index in table.indexes if index.unique and not index.where)]
    for key in filter(None, keys):
        yield {strip_collation(column).lower() for column in key}


def _list_attributes(table: SchemaTable, *, only_keys: bool) -> Iterator[str]:
    primary = {strip_collation(column).lower() for column in table.key}
    foreign = {column.lower() for reference in table.references for column in reference.columns}
    unique = {next(iter(key)) for key in _list_unique_keys(table) if len(key) == 1} - primary
    for column in table.columns:
        marks = [
            mark
            for mark, names in (("PK", primary), ("FK", foreign), ("UK", unique))
            if column.name.lower() in names
        ]
        if marks or not only_keys:
            word = _to_word(column.name)
            comment = "" if word == column.name else _quote(column.name)
            words = [_to_word(column.type.lower() or "any"), word, ", ".join(marks), comment]
            yield " " * 8 + " ".join(filter(None, words))


def _to_word(text: str) -> str:
    """Return the name or the type of a column as a word of Mermaid."""
    word = _NOT_IN_WORD.sub("_", text)
    return f"_{word}" if not _WORD_START.match(word) or _KEY_WORD.match(word) else word


def _create_names(tables: Sequence[str]) -> dict[str, str]:
    """Return the quoted name of each table; names that become equal get a number."""
    names = dict[str, str]()
    for table in dict.fromkeys(tables):
        name, number = _quote(table), 1
        while name in names.values():
            number += 1
            name = _quote(f"{table} ({number})")
        names[table] = name
    return names


def _quote(text: str) -> str:
    """Return a text in quotes, without characters that end it or that Mermaid does not accept in it."""
    printable = "".join(sign if sign.isprintable() else _REPLACEMENT for sign in text)
    plain = _INSTRUCTION.sub(r"\1_", printable.translate(_SUBSTITUTES))
    return f'"{plain or "-"}"'
