"""Tokens and statements of SQLite's SQL, and findings about the statements of a script."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dbctl.engines.parsing.lexer import Lexer, Token, TokenPattern
from dbctl.engines.parsing.scripts import CodedMessage, Linter, SqlScripts, parse_rules
from dbctl.engines.parsing.statements import Statement, find_default

#: SQLite reads a name in double quotes as text if no such name exists.
LEXER = Lexer(
    [
        TokenPattern("text", "[xX]?'[^']*(?:''[^']*)*", "'"),
        TokenPattern("name", '"[^"]*(?:""[^"]*)*', '"'),
        TokenPattern("name", "`[^`]*(?:``[^`]*)*", "`"),
        TokenPattern("name", r"\[[^\]]*", r"\]"),
        TokenPattern("comment", r"--[^\n]*"),
        TokenPattern("comment", r"/\*.*?", r"\*/"),
        TokenPattern("space", r"[ \t\n\f\r]+"),
        # all characters but those of ASCII that are not part of words: a set of the others compiles ten times as long
        TokenPattern("word", r"[^\x00-@\[-^`{-\x7f][^\x00-#%-/:-@\[-^`{-\x7f]*"),
        TokenPattern("number", r"0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"),
        TokenPattern("end", ";"),
        TokenPattern("sign", r"->>|->|\|\||[<>!=]=|<>|<<|>>|."),
    ]
)


#: Operators before a value.
_BEFORE_VALUE = ("=", "==", "<>", "!=", "<", ">", "<=", ">=", "like", "glob")
#: First tokens of defaults that are not constant.
_NOT_CONSTANT = ("current_timestamp", "current_time", "current_date", "(")
#: A pragma without effect inside a transaction.
_INEFFECTIVE_PRAGMA = "foreign_keys"


class SQLiteLinter(Linter):
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
            depth += word.nesting
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
            objects = {(created.kind, name) for name in created.names}
            self._table_objects.setdefault(created.table, set()).update(objects)
        if (dropped := statement.dropped) and dropped.kind in ("index", "trigger"):
            for table in self._table_objects.values():
                table.difference_update((dropped.kind, name) for name in dropped.names)
        if dropped and dropped.kind == "table":
            for name in dropped.names:
                yield from self._find_lost_objects(name, statement)
        for old, new in statement.renamed_tables():
            objects = self._table_objects.pop(old, set())
            self._table_objects.setdefault(new, set()).update(objects)

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


#: Pragmas that are transactional or only read. Full-text tables use two of them, and adding a column with a check uses
#: ``quick_check``. ``foreign_keys`` has no effect inside a transaction; ``schema_transaction`` does what scripts use it
#: for (off while tables are rebuilt, checked at the end).
ALLOWED_PRAGMAS = frozenset(
    """application_id data_version defer_foreign_keys foreign_key_check foreign_key_list foreign_keys index_info index_list index_xinfo
    page_size quick_check table_info table_list table_xinfo user_version""".split()
)
_TRIGGER = re.compile(r"create (?:temp |temporary )?trigger$")
_ENDING = {"begin", "commit", "end", "rollback"}
_OTHER_FILE = {"attach", "detach"}
#: Pragmas that are refused, by the reason.
_NEVER_PRAGMAS = {
    "writable_schema": "allow writing an invalid schema",
    "query_only": "prevent the record of the migration",
    "count_changes": "prevent the record of the migration",
}
_SAVEPOINTS = {"savepoint", "release"}


class SQLiteScripts(SqlScripts):
    lexer, linter = LEXER, SQLiteLinter
    head_length = 4  # ``create temporary trigger``, ``pragma main . journal_mode``

    def depth_change(self, tokens: Sequence[Token], depth: int) -> int:
        """Return 1 at the word TRIGGER, whose statement lasts until END after a semicolon, as for SQLite's shell."""
        if len(tokens) < self.head_length and _TRIGGER.match(self.head(tokens)):
            return 1
        is_end = tokens[-1].text.lower() == "end" and tokens[-2:-1] and tokens[-2].kind == "end"
        return -1 if depth and is_end else 0

    def find_refusal(self, tokens: Sequence[Token], *, outside: bool) -> str:
        first, *rest = self.head(tokens).split(" ")
        if first in _ENDING:
            return f"{first.upper()} would begin or end the transaction of the script"
        if first in _SAVEPOINTS and outside:
            return f"{first.upper()} would begin or end a transaction"
        if first in _OTHER_FILE or (first == "vacuum" and "into" in rest):
            return f"{first.upper()} would access another file"
        name = ""
        if first == "pragma":
            name = (rest[2] if rest[1:2] == ["."] and rest[2:] else (rest or [""])[0]).strip("\"'`[]")
            if name in _NEVER_PRAGMAS:
                return f"PRAGMA {name} would {_NEVER_PRAGMAS[name]}"
        if not outside and (first == "vacuum" or (name and name not in ALLOWED_PRAGMAS)):
            return (
                f"{first.upper()} {name}".rstrip() + " is not possible inside the transaction of the script"
            )
        return ""


SCRIPTS = SQLiteScripts()
