"""Split scripts of SQLite into statements, without an open database."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dbctl.engines.parsing.lexer import Token
from dbctl.engines.parsing.lint import Linter
from dbctl.engines.parsing.scripts import SqlScripts
from dbctl.engines.sqlite.sql.lexer import LEXER

#: Pragmas that are transactional or only read. Full-text tables use two of them, and adding a column with a check uses
#: ``quick_check``. ``foreign_keys`` has no effect inside a transaction; ``schema_transaction`` does what scripts use it
#: for (off while tables are rebuilt, checked at the end).
ALLOWED_PRAGMAS = frozenset(
    """application_id data_version defer_foreign_keys foreign_key_check foreign_key_list foreign_keys index_info index_list
    page_size quick_check table_info table_list table_xinfo user_version""".split()
)
_TRIGGER = re.compile(r"create (?:temp |temporary )?trigger$")
_ENDING = {"begin", "commit", "end", "rollback"}
_OTHER_FILE = {"attach", "detach"}
#: Pragmas that are refused, because they allow writing any bytes as the schema.
_NEVER_PRAGMAS = {"writable_schema"}
_SAVEPOINTS = {"savepoint", "release"}


class SQLiteScripts(SqlScripts):
    """The scripts of SQLite."""

    lexer, head_length = LEXER, 4  # ``create temporary trigger``, ``pragma main . journal_mode``

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
                return f"PRAGMA {name} would allow writing an invalid schema"
        if not outside and (first == "vacuum" or (name and name not in ALLOWED_PRAGMAS)):
            return (
                f"{first.upper()} {name}".rstrip() + " is not possible inside the transaction of the script"
            )
        return ""

    def new_linter(self) -> Linter:
        from dbctl.engines.sqlite.sql.lint import SQLiteLinter

        return SQLiteLinter()


SCRIPTS = SQLiteScripts()
