"""Lint rules for SQLite: refused statements, ineffective pragmas, and objects that a rebuilt table loses."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.engines.parsing.lint import CodedMessage, Linter, parse_rules
from dbctl.engines.parsing.statements import Statement, find_default
from dbctl.engines.sqlite.sql.lexer import LEXER

#: Operators before a value.
_BEFORE_VALUE = ("=", "==", "<>", "!=", "<", ">", "<=", ">=", "like", "glob")
#: First tokens of defaults that are not constant.
_NOT_CONSTANT = ("current_timestamp", "current_time", "current_date", "(")
#: A pragma without effect inside a transaction.
_INEFFECTIVE_PRAGMA = "foreign_keys"


class SQLiteLinter(Linter):
    """The lint rules of SQLite."""

    lexer = LEXER
    ignore_clauses = (("insert", "or", "ignore"), ("on", "conflict"), ("insert", "or", "replace"))
    statement_rules = parse_rules("""
        external-side-effect  attach  ATTACH opens another file
    """)

    def __init__(self) -> None:
        #: The indexes and triggers of each table, as kind and name, after the scripts so far.
        self._table_objects = dict[str, set[tuple[str, str]]]()

    def check_statement(self, statement: Statement) -> Iterator[CodedMessage]:
        reader = statement.new_reader()
        if (
            reader.take("pragma")
            and reader.read_name() == _INEFFECTIVE_PRAGMA
            and reader
            and not self.script.outside_transaction
        ):
            yield (
                "pragma-no-effect",
                "PRAGMA foreign_keys has no effect inside the transaction of the script",
            )
        if statement.altered:
            yield from self._check_columns(statement)
        yield from self._check_texts(statement)
        yield from self._check_rebuilds(statement)

    def _check_columns(self, statement: Statement) -> Iterator[CodedMessage]:
        for name, definition in statement.added_columns():
            column_name, default = f"{statement.altered}.{name}", find_default(definition)
            for keys in (("primary", "key"), ("unique",)):
                if definition.contains(*keys):
                    yield (
                        "column-refused",
                        f"{column_name} is {' '.join(keys).upper()}, which ADD COLUMN does not allow",
                    )
            if definition.contains("stored"):
                yield "column-refused", f"{column_name} is STORED, which ADD COLUMN does not allow"
            if default and default.remaining and default.remaining[0].text in _NOT_CONSTANT:
                yield (
                    "default-not-constant",
                    f"the default of {column_name} is not constant: refused if the table has rows",
                )
            has_value = default and [word.text for word in default.remaining] != ["null"]
            if definition.contains("not", "null") and not (has_value or definition.contains("as")):
                yield (
                    "not-null-without-default",
                    f"{column_name} is NOT NULL without default: refused if the table has rows",
                )

    def _check_texts(self, statement: Statement) -> Iterator[CodedMessage]:
        """Yield texts in double quotes, which SQLite reads as names if such names exist."""
        depth, values_depth = 0, -1  # depth of the brackets, and that of VALUES
        for index, word in enumerate(statement.tokens):
            previous = statement.tokens[index - 1] if index else None
            if word.kind == "sign":
                depth += {"(": 1, ")": -1}.get(word.text, 0)
            if word.kind == "word" and word.text == "values":
                values_depth = depth
            elif word.kind == "word" and depth == values_depth:
                values_depth = -1
            if not word.doubled or previous is None:
                continue
            is_default = previous.text == "default" and previous.kind == "word"
            is_value = values_depth >= 0 and depth == values_depth + 1 and previous.text in ("(", ",")
            is_compared = previous.text in _BEFORE_VALUE and not word.text.isidentifier()
            if is_default or is_value or is_compared:
                yield "double-quoted-text", f'"{word.text}" is a name; write texts in single quotes'

    def _check_rebuilds(self, statement: Statement) -> Iterator[CodedMessage]:
        """Yield indexes and triggers that a rebuild drops and does not create again."""
        if (created := statement.created) and created.kind in ("index", "trigger"):
            self._table_objects.setdefault(created.table, set()).update(
                (created.kind, name) for name in created.names
            )
        if (dropped := statement.dropped) and dropped.kind in ("index", "trigger"):
            for table in self._table_objects.values():
                table.difference_update((dropped.kind, name) for name in dropped.names)
        if dropped and dropped.kind == "table":
            for name in dropped.names:
                yield from self._find_lost_objects(name, statement)
        for old, new in statement.renamed_tables():
            self._table_objects[new] = self._table_objects.get(new, set()) | self._table_objects.pop(
                old, set()
            )

    def _find_lost_objects(self, table: str, drop: Statement) -> Iterator[CodedMessage]:
        lost = self._table_objects.pop(table, set())
        if table not in self.rebuilt_tables:
            return
        recreated = {
            (statement.created.kind, name)
            for statement in self.statements[self.statements.index(drop) + 1 :]
            if statement.created and statement.created.kind in ("index", "trigger")
            for name in statement.created.names
        }
        for kind, name in sorted(lost - recreated):
            yield "rebuild-drops-objects", f"{kind} {name} is dropped with {table} and not created again"
