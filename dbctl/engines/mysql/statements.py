r"""The SQL text of MySQL and MariaDB: its tokens, queries of users, which may only read, and scripts with their problems; no driver is required.

The mode is that of dbctl's sessions: ``"`` quotes names, ``\`` is a character; see ``bind_parameters``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from dbctl.engines.contract.schema import StatementEffect
from dbctl.engines.parsing.lexer import Lexer, Token, TokenPattern
from dbctl.engines.parsing.scripts import (
    CodedMessage,
    Linter,
    SqlScripts,
    analyze_effect,
    find_lock_release,
    parse_rules,
)
from dbctl.engines.parsing.statements import Statement, Word, read_words, unquote_name
from dbctl.engines.sql.catalog import ident

#: ``--`` begins a comment only before a space or a control character of ASCII. The content of comments that servers run (``/*!``)
#: is part of the statement.
LEXER = Lexer(
    [
        TokenPattern("text", "'[^']*", "'"),
        TokenPattern("name", '"[^"]*', '"'),
        TokenPattern("name", "`[^`]*", "`"),
        TokenPattern("comment", r"--(?=[\x00-\x20\x7f]|\Z)[^\n]*"),
        TokenPattern("comment", r"#[^\n]*"),
        TokenPattern("comment", r"/\*(?!M?!).*?", r"\*/"),
        TokenPattern("space", r"\s+"),
        TokenPattern("word", r"@{0,2}\w[\w$]*"),
        TokenPattern("parameter", r":[^\W\d]\w*"),
        TokenPattern("end", ";"),
        TokenPattern("sign", r"/\*M?!|\*/|."),
    ]
)


def split_variants(tokens: Iterable[Token]) -> list[list[Token]]:
    """Return a statement as read by servers that run the content of comments (``/*!40000 … */``), and by others.

    The result has one item if there is no such comment, or nothing else.
    """
    with_comments: list[Token] = []
    without_comments: list[Token] = []
    in_comment = after_opening = False
    for token in tokens:
        if token.kind == "sign" and len(token.text) > 1:
            in_comment = after_opening = token.text != "*/"
            continue
        # The first word inside begins with the oldest version that runs it.
        stripped = token._replace(text=token.text.lstrip("0123456789")) if after_opening else token
        after_opening = False
        if stripped.text:
            with_comments.append(stripped)
            without_comments += [] if in_comment else [stripped]
    has_content = any(token.kind not in ("space", "comment", "end") for token in without_comments)
    return (
        [with_comments, without_comments]
        if has_content and without_comments != with_comments
        else [with_comments]
    )


#: The first words of queries.
QUERY_WORDS = ("select", "with", "values", "table", "show", "explain", "describe", "desc", "(")
#: Words of statements that do more than read: they write, access files of the server, or acquire or release locks, including
#: that of dbctl.
WRITING_WORDS = frozenset(
    (
        "analyze call delete dumpfile get_lock insert load load_file lock outfile release_all_locks release_lock "
        "replace update"
    ).split()
)
#: Words that are functions if a bracket follows.
WRITING_FUNCTIONS = frozenset({"insert", "replace"})

#: Functions with external effects: on files of the server, its locks and logs, and programs.
EXTERNAL_FUNCTIONS = frozenset(
    (
        "binlog_gtid_pos get_lock load_file master_gtid_wait master_pos_wait release_all_locks release_lock "
        "source_pos_wait sys_eval sys_exec sys_get sys_set wait_for_executed_gtid_set"
    ).split()
)


#: Functions that the server does not ship.
STORED_FUNCTIONS = """select lower(routine_name) from information_schema.routines
where routine_type <> 'PROCEDURE' and routine_schema not in ('mysql', 'sys', 'information_schema', 'performance_schema')"""
#: Views with their statements.
VIEWS = """select lower(table_name), view_definition from information_schema.views
where table_schema not in ('mysql', 'sys', 'information_schema', 'performance_schema')"""
#: Where the server stores password hashes, and samples of column values.
SERVER_SECRETS = {
    "column_stats": ["min_value", "max_value", "histogram"],
    "column_statistics": ["histogram"],
    "global_priv": ["priv"],
    "servers": ["password"],
    "user": ["authentication_string", "password"],
}
SYSTEM = frozenset({"mysql", "information_schema"})
#: Words that follow the ``*`` for all columns.
AFTER_STAR = frozenset("except from group having intersect into limit order procedure union where".split())


def find_rejection(sql: str) -> str:
    """Return why a statement is not a query, or an empty text.

    A read-only transaction rejects writes to tables but not to files, and inside a writing transaction it rejects nothing.
    """
    significant = LEXER.read_significant(sql)
    first = significant[0].text.lower() if significant else ""
    if first not in QUERY_WORDS:
        return f"{first.upper() or 'an empty statement'} is not a query"
    for position, token in enumerate(significant):
        word = token.text.lower()
        if token.text in ("/*!", "/*M!"):
            return "it contains a comment that servers run"
        if token.kind == "end" and position < len(significant) - 1:
            return "it contains several statements"
        if token.kind != "word" or word not in WRITING_WORDS:
            continue
        following = significant[position + 1].text if position + 1 < len(significant) else ""
        before = significant[position - 1].text.lower() if position else ""
        if (
            (word in WRITING_FUNCTIONS and following == "(")
            or before == "."
            or (word == "update" and before == "for")
        ):
            continue
        if first == "show" or (first in ("explain", "describe", "desc") and word != "analyze"):
            continue  # it only describes such a statement
        return f"a query with {word.upper()} does more than read"
    return ""


def find_secret(sql: str, hidden: Mapping[str, Collection[str]]) -> str:
    """Return the first hidden column that a query names, or selects by ``*``; or an empty text.

    The server does not report which columns a statement reads, so every occurrence of a name is treated as a read.
    """
    if not hidden:
        return ""
    significant = LEXER.read_significant(sql)
    first = significant[0].text.lower() if significant else ""
    words = [_read_name(token) for token in significant if token.kind in ("word", "name")]
    if words[:2] == ["show", "grants"] or words[:3] == ["show", "create", "user"]:
        return "a password hash of the server"
    selects_all = first not in ("show", "describe", "desc") and any(
        _selects_all(significant, position) or (token.kind == "word" and token.text.lower() == "table")
        for position, token in enumerate(significant)
    )
    columns = {column.lower() for columns in hidden.values() for column in columns}
    server_secrets = SERVER_SECRETS if SYSTEM.intersection(words) else {}
    columns.update(name for table, names in server_secrets.items() if table in words for name in names)
    for table, names in (*server_secrets.items(), *hidden.items()):
        if selects_all and table.lower() in words:
            return f"{table}.{next(iter(names))}"
    return next((word for word in words if word in columns), "")


def _selects_all(significant: Sequence[Token], position: int) -> bool:
    """Return whether a ``*`` selects all columns: a multiplication has a second operand."""
    if significant[position].text != "*" or (position and significant[position - 1].text == "("):
        return False
    if position and significant[position - 1].text == ".":
        return True
    following = significant[position + 1] if position + 1 < len(significant) else None
    return following is None or following.text.lower() in AFTER_STAR or following.text in (",", ")", ";")


def _read_name(token: Token) -> str:
    return (unquote_name(token.text) if token.kind == "name" else token.text).lower()


def find_external_call(sql: str) -> str:
    """Return the first function with external effects that a query calls; or an empty text."""
    return next((name for name in _list_calls(sql) if name in EXTERNAL_FUNCTIONS), "")


def find_stored_function(sql: str, functions: Collection[str], views: Mapping[str, str]) -> str:
    """Return the first stored function that a query calls, also by the views that it reads; or an empty text.

    Args:
        sql: the query.
        functions: the names of stored functions and packages, in lower case.
        views: the statement of each view by its name in lower case; empty if the user may not read it.
    """
    waiting, seen = [sql], set[str]()
    while functions and waiting:
        statement = waiting.pop()
        if name := next((name for name in _list_calls(statement) if name in functions), ""):
            return name
        words = {_read_name(token) for token in LEXER.read_significant(statement)}
        for view in words.intersection(views) - seen:
            seen.add(view)
            definition = views[view]
            if not definition:
                return f"of the view {view}"
            waiting.append(definition)
    return ""


def _list_calls(sql: str) -> Iterator[str]:
    """Yield the names that a bracket follows, and those before a dot, which may be packages, in lower case."""
    significant = LEXER.read_significant(sql)
    for token, following in pairwise(significant):
        if token.kind in ("word", "name") and following.text in ("(", "."):
            yield _read_name(token)


#: Statements that commit implicitly.
_DDL_VERBS = ("create", "alter", "drop", "rename", "truncate", "optimize", "analyze", "grant", "revoke")
_DML_VERBS = ("insert", "update", "delete", "replace", "load")
#: The names of rows in a trigger, the scopes of variables, and the databases that no statement changes.
_NO_DATABASES = ("new", "old", "@@global", "@@session", "@@local", "information_schema", "performance_schema")


class MySQLLinter(Linter):
    lexer = LEXER
    if_not_exists_kinds = ("table",)
    ignore_clauses = (("insert", "ignore"), ("on", "duplicate", "key"))
    #: Statements that affect the whole server, or run a text.
    statement_rules = parse_rules("""
        external-side-effect  create|alter|drop user|role|database|schema|server|tablespace  {words} may affect more than this database
        external-side-effect  create or replace user                                {words} may affect more than this database
        external-side-effect  rename user                                           {words} may affect more than this database
        external-side-effect  set global|persist|password                           {words} may affect more than this database
        external-side-effect  grant|revoke|install|uninstall|flush                  {words} may affect more than this database
        runs-text             prepare|execute                                       {words} runs a text, which cannot be checked
    """)
    action_rules = parse_rules("""
        changes-enum  modify [column] {name} enum|set         {table}.{name}: a value that is not added at the end copies the table, and a removed value is lost in the rows
        changes-enum  change [column] {name} {new} enum|set   {table}.{name}: a value that is not added at the end copies the table, and a removed value is lost in the rows
        copies-table  modify [column] {name} !enum|set        MODIFY of {table}.{name} copies the table, unless the type is unchanged
        copies-table  change [column] {name} {new} !enum|set  CHANGE of {table}.{name} copies the table, unless the type is unchanged
        copies-table  convert                                 CONVERT TO CHARACTER SET copies {table}, and may change which values are equal
        copies-table  drop primary                            DROP PRIMARY KEY copies {table}
        copies-table  add fulltext                            the first full-text index of {table} copies the whole table
    """)

    def check_script(self) -> Iterator[CodedMessage]:
        ddl_statements = [statement for statement in self.statements if statement.verb in _DDL_VERBS]
        if ddl_statements and len(self.statements) > 1:
            yield (
                "not-transactional",
                f"{len(self.statements)} statements, each of which remains if a later one fails",
            )
        if ddl_statements and any(
            statement.main_reader().peek() in _DML_VERBS for statement in self.statements
        ):
            yield "mixed-ddl-dml", "it changes the schema, which commits implicitly, and rows"

    def check_statement(self, statement: Statement) -> Iterator[CodedMessage]:
        yield from self._check_qualifiers(statement)
        created = statement.created
        if (
            created
            and created.kind == "index"
            and "fulltext" in created.modifiers
            and not self.is_new_table(created.table)
        ):
            yield "copies-table", f"the first full-text index of {created.table} copies the whole table"
        if statement.altered and not self.is_new_table(statement.altered):
            for action in statement.actions():
                names = action.match("change [column] {name} {new_name}")
                if names and names["new_name"] != names["name"]:
                    message = "{table}.{name} is renamed to {new_name}"
                    yield "renames", message.format(table=statement.altered, **names)

    def _check_qualifiers(self, statement: Statement) -> Iterator[CodedMessage]:
        words = statement.tokens
        unqualified = {
            word.text
            for position, word in enumerate(words)
            if _is_name(word) and not (position + 1 < len(words) and words[position + 1].text == ".")
        }
        # A qualifier that is neither a table nor an alias in the statement is a database.
        others = {
            word.text
            for word, following in pairwise(words)
            if following.text == "." and _is_name(word) and word.text not in {*unqualified, *_NO_DATABASES}
        }
        for name in sorted(others):
            yield (
                "external-side-effect",
                f"the statement names database {name}, so it uses that database wherever it runs",
            )


def _is_name(word: Word) -> bool:
    return word.kind == "name" or (word.kind == "word" and not word.text[0].isdigit())


_TRANSACTION_STATEMENTS = re.compile(
    r"(?:begin|commit|rollback|savepoint|release|start transaction|xa|lock tables?|unlock tables?|set names|use)\b"
    r"|flush tables? .*with read lock"
)
#: An assignment to a variable of the session in a SET statement, which may have several; adding a mode is none.
_SESSION_ASSIGNMENT = re.compile(
    r"(?:^set|,) (?:(?:session|local|@@session \.|@@local \.) )?(?:@@)?`?(autocommit|sql_mode)`? (?:: )?="
    r"(?! concat \( @@(?:session \. )?sql_mode\b)"
)
#: Statements about another database, or about the database itself.
_SERVER_STATEMENTS = re.compile(r"(?:create|drop) (?:database|schema)\b")
_BODY = re.compile(
    r"create (?:(?!(?:table|index|view|sequence) )\S+ )*?(?:trigger|procedure|function|event|package)\b"
)
#: Blocks that end with END IF and similar words, and that do not begin with a counted word.
_LOOPS = ("if", "loop", "while", "repeat", "for")


class MySQLScripts(SqlScripts):
    """The scripts of MySQL and MariaDB, where a schema change is never inside a transaction."""

    lexer, linter = LEXER, MySQLLinter
    head_length = 12  # ``create definer = … trigger``

    def depth_change(self, tokens: Sequence[Token], depth: int) -> int:
        """Return 1 if the body of a trigger, or a block in it, begins with the last token, -1 if one ends."""
        word = tokens[-1].text.lower() if tokens[-1].kind == "word" else ""
        before = tokens[-2].text.lower() if tokens[-2:-1] else ""
        if before == ".":  # a column, as in NEW.end
            return 0
        if word == "begin" and (depth or _BODY.match(self.head(tokens))):
            return 1
        if depth and word == "case" and before != "end":
            return 1
        if before == "end" and word in _LOOPS:
            return 1  # this END closes no counted block
        return -1 if depth and word == "end" else 0

    def find_refusal(self, tokens: Sequence[Token], *, outside: bool) -> str:
        del outside
        return next(filter(None, map(self._find_refusal, split_variants(tokens))), "")

    def _find_refusal(self, tokens: Sequence[Token]) -> str:
        head = self.head(tokens)
        if head.startswith("delimiter"):
            return "DELIMITER requires the mysql client; omit it, and end a body with END;"
        if head.startswith(("source ", "\\")):
            return "such commands require the mysql client"
        if change := _find_session_change(head, tokens):
            return f"{change} would change the transaction or the session of the script"
        if match := _SERVER_STATEMENTS.match(head):
            return f"{match.group().upper()} affects more than this database"
        if any(token.kind == "text" and "\\" in token.text for token in tokens):
            return "the meaning of a backslash in a text depends on sql_mode; use x'5c', or char(10)"
        return find_lock_release(tokens, "release_all_locks")

    def effect(self, sql: str) -> StatementEffect:
        """Return the effect of one statement, with and without the parts that only some servers run."""
        effects = [analyze_effect(read) for read in split_variants(LEXER.tokenize(sql))]
        return StatementEffect(
            may_delete_rows=any(variant.may_delete_rows for variant in effects),
            is_destructive=any(variant.is_destructive for variant in effects),
            dropped_tables=[name for variant in effects for name in variant.dropped_tables],
            emptied_tables=[name for variant in effects for name in variant.emptied_tables],
            session_only=all(variant.session_only for variant in effects),
            temporary_names=[name for variant in effects for name in variant.temporary_names],
        )


def _find_session_change(head: str, tokens: Sequence[Token]) -> str:
    """Return what in a statement changes the transaction or the mode of the session; empty if nothing does."""
    if match := _TRANSACTION_STATEMENTS.match(head):
        return match.group().upper()
    if not head.startswith("set "):
        return ""
    match = _SESSION_ASSIGNMENT.search(" ".join(token.text.lower() for token in tokens))
    return f"SET {match[1].upper()}" if match else ""


def session_reset_statements(sql: str) -> list[str]:
    """Return statements that drop the temporary tables and sequences which a statement creates, and unset the user variables that it names.

    Servers do not list them.
    """
    variants = [read_words(tokens) for tokens in split_variants(LEXER.tokenize(sql))]
    created = [Statement(0, words).created for words in variants]
    drops = [
        f"drop temporary {item.kind} if exists {ident(name)}"
        for item in created
        if item and "temporary" in item.modifiers
        for name in item.names
    ]
    words = [word for variant in variants for word in variant if word.kind == "word"]
    variables = {word.text.lower() for word in words if re.match(r"@\w", word.text)}
    return [*drops, *(f"set {name} = null" for name in sorted(variables))]


SCRIPTS = MySQLScripts()
