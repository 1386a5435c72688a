"""The SQL text of PostgreSQL: its tokens, scripts and their problems, and queries of users, which may only read and show no secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from msgspec import structs

from dbctl.engines.contract.schema import LintFinding, Script, StatementEffect
from dbctl.engines.parsing.lexer import Lexer, Token, TokenPattern
from dbctl.engines.parsing.scripts import CodedMessage, Linter, SqlScripts, find_lock_release, parse_rules
from dbctl.engines.parsing.statements import Statement, WordReader, find_default, read_words, unquote_name

_LETTERS = r"[^\x00-/:-@\[-^`{-\x7f]"  # and digits
_LINE_BREAK = r"(?:[ \t\f]|--[^\n\r]*)*[\n\r](?:[ \t\n\r\f]|--[^\n\r]*[\n\r])*"
#: A word includes the letters before a quote, so that only a lone E or e begins a string with escapes; its parts on other lines
#: have escapes too. Unlike in standard SQL, comments nest. All characters beyond ASCII are letters, also spaces.
LEXER = Lexer(
    [
        TokenPattern("text", rf"[eE]'(?:[^'\\]|\\.|''|'{_LINE_BREAK}')*", "'"),
        TokenPattern("text", "'[^']*", "'"),
        TokenPattern("text", rf"(?P<dollar>\$(?:(?!\d){_LETTERS}+)?\$).*?", "(?P=dollar)"),
        TokenPattern("name", '"[^"]*', '"'),
        TokenPattern("comment", r"--[^\n\r]*"),
        TokenPattern("comment", r"/\*"),
        TokenPattern("space", r"[ \t\n\r\f\v]+"),
        TokenPattern("word", rf"{_LETTERS}[^\x00-#%-/:-@\[-^`{{-\x7f]*"),
        TokenPattern("parameter", r":[^\W\d]\w*"),
        TokenPattern("end", ";"),
        TokenPattern("sign", r"::|\$\d+|."),
    ],
    nests_comments=True,
)


#: Functions with the same value for every row of a statement: a default that uses them is stored only once.
_STABLE_FUNCTIONS = frozenset(
    """now transaction_timestamp statement_timestamp timezone date_trunc lower upper coalesce to_char current_setting
    to_timestamp make_interval jsonb_build_object json_build_object""".split()
)
#: Words before parentheses that are not functions.
_TYPES = frozenset(
    """varchar char character varying numeric decimal bit time timestamp timestamptz timetz interval
    current_timestamp localtimestamp current_time localtime cast array in float""".split()
)
_SERIAL = ("serial", "bigserial", "smallserial", "serial4", "serial8", "serial2")
#: Statements that affect the whole server, or another database of it; also inside DO.
_SERVER_RULES = parse_rules("""
    external-side-effect  create|alter|drop role|user|group|database|tablespace|subscription !mapping  {words} affects more than this database
    external-side-effect  create|alter user mapping                      {words} lets statements change rows of another server
    external-side-effect  alter|reassign|drop system|owned               {words} affects more than this database
""")


class PostgreSQLLinter(Linter):
    lexer = LEXER
    if_not_exists_kinds = ("table", "index", "schema", "sequence", "extension")
    statement_rules = (
        *_SERVER_RULES,
        *parse_rules("""
            external-side-effect  copy +program               COPY … PROGRAM runs a program on the server
            external-side-effect  grant|revoke -on            {words} of a role affects more than this database
            locks-table           lock [table] [only] {name}  LOCK blocks other sessions on {name} until the migration ends
            locks-table           refresh materialized view !concurrently {name}  REFRESH blocks reads of {name} until it is complete
        """),
    )
    action_rules = parse_rules("""
        rewrites-table    alter [column] {name} [set] [data] type            a type change of {table}.{name} rewrites the table, unless both types store values in the same way
        not-null-scans    alter [column] {name} set not null                 SET NOT NULL locks {table} while it scans all rows
        constraint-scans  add constraint {name} foreign|check -not_valid     {name} of {table} is checked for every row, which blocks writes
        constraint-scans  add foreign|check -not_valid                       {word} of {table} is checked for every row, which blocks writes
        unique-locks      add constraint {name} primary|unique|exclude -using_index  {name} of {table} creates an index, which locks the table
        unique-locks      add primary|unique|exclude -using_index            {word} of {table} creates an index, which locks the table
    """)

    def check_statement(self, statement: Statement) -> Iterator[CodedMessage]:
        yield from self._check_blocks(statement)
        yield from self._check_indexes(statement)
        yield from self._check_locks(statement)
        yield from self._check_labels(statement)
        if statement.altered and not self.is_new_table(statement.altered):
            yield from self._check_columns(statement)

    def _check_indexes(self, statement: Statement) -> Iterator[CodedMessage]:
        created, dropped = statement.created, statement.dropped
        if (
            created
            and created.kind == "index"
            and not (created.concurrently or self.is_new_table(created.table))
        ):
            yield "index-locks", f"CREATE INDEX blocks writes to {created.table} until it is complete"
        if dropped and dropped.kind == "index" and not dropped.concurrently:
            for name in dropped.names:
                if not self.is_new("index", name):
                    yield ("index-locks", f"DROP INDEX {name} locks its table, and waits for all readers")

    def _check_locks(self, statement: Statement) -> Iterator[CodedMessage]:
        words = statement.new_reader()
        if words.take("cluster"):
            yield ("locks-table", f"CLUSTER rewrites {words.read_name() or 'every table'} and locks it")
        elif words.take("vacuum") and any(word.text == "full" for word in words.remaining):
            yield "locks-table", "VACUUM FULL rewrites tables and locks them"
        elif words.take("reindex") and not any(word.text == "concurrently" for word in words.remaining):
            yield "locks-table", "REINDEX blocks writes to the table until it is complete"

    def _check_labels(self, statement: Statement) -> Iterator[CodedMessage]:
        """Find uses of an enum label in the transaction that adds it."""
        for word in statement.tokens:
            if (
                word.kind == "text"
                and word.text in self._added_labels
                and not self.script.outside_transaction
            ):
                yield (
                    "enum-value-same-transaction",
                    f"{word.text} cannot be used in the migration that adds it",
                )
        words = statement.new_reader()
        names = words.match("alter type {name} add value")
        if names and not self.is_new("type", names["name"]):
            words.take("if", "not", "exists")
            if words and words.remaining[0].kind == "text":
                self._added_labels.add(words.remaining[0].text)

    def _check_columns(self, statement: Statement) -> Iterator[CodedMessage]:
        for name, definition in statement.added_columns():
            kind, default = definition.peek(), find_default(definition)
            is_computed = definition.contains("generated")
            if kind in _SERIAL or is_computed or (default and _is_volatile(default)):
                yield (
                    "rewrites-table",
                    f"{statement.altered}.{name} gets a different value in each row, which rewrites the table",
                )
            has_default_value = default and [word.text for word in default.remaining] != ["null"]
            required = definition.contains("not", "null") or definition.contains("primary", "key")
            if required and not (has_default_value or is_computed or kind in _SERIAL):
                yield (
                    "not-null-without-default",
                    f"{statement.altered}.{name} is NOT NULL without a default, which fails if the table has rows",
                )

    def _check_blocks(self, statement: Statement) -> Iterator[CodedMessage]:
        """Apply the rules for statements that affect the whole server to each word of a DO block."""
        if statement.verb == "do":
            bodies = (word.text.strip("$") for word in statement.tokens if word.kind == "text")
            words = [word for body in bodies for word in read_words(LEXER.tokenize(body))]
            for rule in _SERVER_RULES:
                starts = (rule.match(WordReader(words[start:])) for start in range(len(words)))
                yield from dict.fromkeys(filter(None, starts))

    def lint(self, script: Script) -> list[LintFinding]:
        self._added_labels = set[str]()
        return super().lint(script)


def _is_volatile(default: WordReader) -> bool:
    """Return whether a default calls a function that may return a different value for each row."""
    words = default.remaining
    return any(
        word.kind in ("word", "name")
        and following.text == "("
        and word.text not in _STABLE_FUNCTIONS | _TYPES
        for word, following in pairwise(words)
    )


_TRANSACTION_STATEMENTS = re.compile(
    r"(?:abort|begin|commit|end|prepare transaction|rollback|savepoint|release|start transaction)\b"
)
#: Statements about the server or another database, which no script may contain.
_SERVER_STATEMENTS = re.compile(
    r"alter system|alter database \S+ set tablespace|(?:create|drop) (?:database|tablespace|subscription)"
)
_RULE = re.compile(r"create (?:or replace )?rule\b")
_NOT_IN_TRANSACTION = re.compile(
    r"cluster$|vacuum|reindex (?:database|system)"
    r"|(?:create (?:unique )?index|drop index|reindex \w+|refresh materialized view) concurrently"
)
#: Further statements than SET that only change settings of the session.
_SETTING = re.compile(r"reset |select (?:pg_catalog \. )?set_config \([^()]*\) ?;?$")


class PostgreSQLScripts(SqlScripts):
    lexer, head_length, linter = LEXER, 5, PostgreSQLLinter

    def effect(self, sql: str) -> StatementEffect:
        effect, words = super().effect(sql), (token.text for token in self.lexer.read_significant(sql))
        is_setting = bool(_SETTING.match(" ".join(words).lower()))
        return structs.replace(effect, session_only=effect.session_only or is_setting)

    def depth_change(self, tokens: Sequence[Token], depth: int) -> int:
        """Return the change of the nesting depth at the last token; BEGIN ATOMIC … END is the body of a function, parentheses that of a rule."""
        if (sign := tokens[-1].text) in ("(", ")") and _RULE.match(self.head(tokens)):
            return 1 if sign == "(" else -min(depth, 1)
        word = tokens[-1].text.lower() if tokens[-1].kind == "word" else ""
        if word == "atomic" and tokens[-2:-1] and tokens[-2].text.lower() == "begin":
            return 1
        if depth and word == "case":
            return 1
        return -1 if depth and word == "end" else 0

    def find_refusal(self, tokens: Sequence[Token], *, outside: bool) -> str:
        if tokens and tokens[0].text == "\\":
            return "commands that begin with a backslash require psql"
        head = self.head(tokens)
        if match := _TRANSACTION_STATEMENTS.match(head):
            return f"{match.group().upper()} would begin or end the transaction of the script"
        if match := _SERVER_STATEMENTS.match(head) or (None if outside else _NOT_IN_TRANSACTION.match(head)):
            return f"{match.group().upper()} is not possible inside the transaction of the script"
        if head.startswith("copy ") and any(token.text.lower() in ("stdin", "stdout") for token in tokens):
            return "COPY FROM STDIN or TO STDOUT requires psql; use INSERT"
        return find_lock_release(tokens, "pg_advisory_unlock_all")


SCRIPTS = PostgreSQLScripts()


def remove_concurrently(sql: str) -> str:
    """Return a statement without CONCURRENTLY, for a transaction without other sessions; empty if nothing remains to be run."""
    significant = LEXER.read_significant(sql)
    if not _NOT_IN_TRANSACTION.match(SCRIPTS.head(significant)):
        return sql
    start = next((token.start for token in significant if token.text.lower() == "concurrently"), -1)
    return sql[:start] + sql[start + len("concurrently") :] if start >= 0 else ""


def find_concurrent_index(sql: str) -> str:
    """Return the unquoted name of the index that CREATE INDEX CONCURRENTLY creates; empty for others, or without a name."""
    reader = WordReader(read_words(LEXER.tokenize(sql)))
    if reader.match("create [unique] index concurrently") is None:
        return ""
    reader.take("if", "not", "exists")
    if not reader or reader.peek() == "on":
        return ""
    name = reader.remaining[0]
    return str(name.text) if name.kind == "name" else name.text.lower()


#: The first words of queries. COPY can run programs on the server, and DO any code.
QUERY_WORDS = frozenset({"select", "with", "values", "table", "show", "explain"})
#: For these statements, EXPLAIN shows what they read.
EXPLAINED_WORDS = frozenset({"select", "with", "values", "table"})
#: Other statements that EXPLAIN supports; a read-only transaction never runs them.
DML_WORDS = frozenset({"insert", "update", "delete", "merge"})

#: Tables that inherit from others, directly or indirectly.
CHILD_TABLES = """with recursive heirs(heir, named) as (
  select i.inhrelid, c.relname from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhparent
  where c.relname = any(:names)
  union select i.inhrelid, h.named from pg_catalog.pg_inherits i join heirs h on h.heir = i.inhparent)
select c.relname, h.named from heirs h join pg_catalog.pg_class c on c.oid = h.heir"""

#: Built-in or C functions that do more than read their arguments, among the called ``names``. They end other sessions, access
#: files of the server, run further SQL, or reach other servers, and a rollback does not undo that.
VOLATILE = """select distinct p.proname::text from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
where p.proname = any(:names) and p.provolatile = 'v' and (l.lanname in ('internal', 'c') or not l.lanpltrusted)
order by 1"""
#: A function that neither the server nor an extension defines, and that a statement calls: by its name, as an attribute of a row, through
#: an operator or a cast, or in the views that it reads. No plan shows what it reads, and the server replaces simple ones by their text.
STORED_FUNCTION = """with recursive stored as (
  select p.oid, p.proname, p.proargtypes from pg_catalog.pg_proc p
    join pg_catalog.pg_language l on l.oid = p.prolang join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where n.nspname not in ('pg_catalog', 'information_schema') and (l.lanname not in ('internal', 'c') or p.prokind = 'a')
    and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_proc'::regclass
      and d.objid = p.oid and d.deptype = 'e')),
views(oid) as (
  select c.oid from pg_catalog.pg_class c where c.relkind = 'v' and c.relname = any(:words)
  union select d.refobjid from views v join pg_catalog.pg_rewrite r on r.ev_class = v.oid
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
      and d.refclassid = 'pg_catalog.pg_class'::regclass),
viewed as (
  select d.refclassid, d.refobjid from views v join pg_catalog.pg_rewrite r on r.ev_class = v.oid
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid),
named(oid) as (
  select c.oid from pg_catalog.pg_class c where c.relkind in ('r', 'p') and c.relname = any(:words)
  union select v.refobjid from viewed v where v.refclassid = 'pg_catalog.pg_class'::regclass),
attached(classid, oid) as (
  select p.tableoid, p.oid from pg_catalog.pg_policy p join named n on n.oid = p.polrelid
  union all select k.tableoid, k.oid from pg_catalog.pg_constraint k join pg_catalog.pg_type t on t.oid = k.contypid
    where t.typname = any(:words)
      or exists (select from viewed v where v.refclassid = 'pg_catalog.pg_type'::regclass and v.refobjid = t.oid))
select s.proname::text from stored s where s.proname = any(:called)
  or (s.proname = any(:words) and s.proargtypes[0] in (
    select t.oid from pg_catalog.pg_type t where t.typtype = 'c' or t.typname in ('record', 'anyelement')))
  or exists (select from viewed v where v.refclassid = 'pg_catalog.pg_proc'::regclass and v.refobjid = s.oid)
  or exists (select from pg_catalog.pg_operator o where o.oprcode = s.oid and (strpos(:signs, o.oprname) > 0
    or exists (select from viewed v where v.refclassid = 'pg_catalog.pg_operator'::regclass and v.refobjid = o.oid)))
  or exists (select from pg_catalog.pg_cast c join pg_catalog.pg_type t on t.oid = c.casttarget
    where c.castfunc = s.oid and (c.castcontext = 'i' or t.typname = any(:words)))
  or exists (select from attached a join pg_catalog.pg_depend d on d.classid = a.classid and d.objid = a.oid
    and d.refclassid = 'pg_catalog.pg_proc'::regclass and d.refobjid = s.oid)
limit 1"""
#: Volatile functions that only return information.
HARMLESS = frozenset(
    """array_sample array_shuffle clock_timestamp currval gen_random_bytes gen_random_uuid gen_salt lastval
    pg_blocking_pids pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system
    pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn pg_database_size pg_indexes_size
    pg_is_in_backup pg_is_in_recovery pg_is_wal_replay_paused pg_last_wal_receive_lsn pg_last_wal_replay_lsn
    pg_last_xact_replay_timestamp pg_partition_ancestors pg_partition_tree pg_relation_filepath pg_relation_size
    pg_safe_snapshot_blocking_pids pg_sequence_last_value pg_sequence_parameters pg_sleep pg_stat_get_wal_receiver
    pg_stat_statements pg_table_size pg_tablespace_size pg_total_relation_size pgstatindex pgstattuple
    pgstattuple_approx random random_normal setseed timeofday txid_current_if_assigned uuid_generate_v1
    uuid_generate_v1mc uuid_generate_v4 uuidv4 uuidv7""".split()
)

#: Functions that run SQL which no plan shows, although the server classifies them as reading.
RUNS_SQL = re.compile(
    r"(?:table|schema|database|query|cursor)_to_xml(?:_and_xmlschema)?|crosstab[234n]?|connectby|xpath_table"
)

#: Where the server stores samples of column values, and its own secrets.
SERVER_SECRETS = {
    "pg_statistic": [f"stavalues{number}" for number in range(1, 6)],
    "pg_statistic_ext_data": ["stxdmcv"],
    "pg_authid": ["rolpassword"],
    "pg_db_role_setting": ["setconfig"],  # apps store keys in settings of their own
    "pg_subscription": ["subconninfo"],
    "pg_user_mapping": ["umoptions"],
}
#: Nodes whose columns belong to no table, so that only the nodes below show what they read.
APPEND_NODES = frozenset({"Append", "Merge Append", "Recursive Union", "SetOp"})
#: Words that can follow a table in a statement, and are not an alias.
RESERVED = frozenset(
    """all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
    column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze
    from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
    localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
    returning right select session_user similar some symmetric system_user table tablesample then to trailing true
    union unique user using variadic verbose when where window with""".split()
)
_COLUMN = re.compile(r'(?:(?:[^\W\d][\w$]*|"(?:[^"]|"")*")\.)?(?:[^\W\d][\w$]*|"(?:[^"]|"")*")')


def read_first_word(sql: str) -> str:
    """Return the first word of a statement, in lower case."""
    return next((token.text for token in LEXER.tokenize(sql) if token.kind == "word"), "").lower()


def explained_statement(sql: str) -> str:
    """Return the statement inside an EXPLAIN; any other statement unchanged."""
    tokens_read = LEXER.read_significant(sql)
    words = [token.text.lower() for token in tokens_read]
    if not words or words[0] != "explain":
        return sql
    position = 1
    while position < len(words) and words[position] in ("analyze", "analyse", "verbose"):
        position += 1
    if (
        words[position : position + 1] == ["("]
        and not EXPLAINED_WORDS.intersection(words[position + 1 : position + 2])
        and words[position + 1 : position + 2] != ["("]
    ):
        position = words.index(")", position) + 1 if ")" in words[position:] else len(words)
    return sql[tokens_read[position].start :] if position < len(tokens_read) else ""


def find_renamed_columns(sql: str, hidden: Collection[str]) -> str:
    """Return the first table of ``hidden`` whose columns a statement renames, with ``.*``; or an empty text.

    The plan shows the new names only.
    """
    tokens_read = LEXER.read_significant(sql)
    for position, token in enumerate(tokens_read):
        if _unquote(token) not in hidden:
            continue
        following = [
            token for token in tokens_read[position + 1 : position + 6] if token.text not in (")", "*")
        ]
        if following and following[0].text.lower() == "as":
            following = following[1:]
        named = len(following) > 1 and (
            following[0].kind == "name"
            or (following[0].kind == "word" and following[0].text.lower() not in RESERVED)
        )
        if named and following[1].text == "(":
            return f"{_unquote(token)}.*"
    return ""


def _unquote(token: Token) -> str:
    """Return a name as the server stores it."""
    if token.kind == "word":
        return token.text.lower()
    return unquote_name(token.text) if token.kind == "name" else ""


def find_called_functions(sql: str) -> tuple[list[str], bool]:
    """Return the names of called functions, and whether the statement contains U& names, which hide calls."""
    tokens_read = LEXER.read_significant(sql)
    names, has_hidden_names = [], False
    for token, following in zip(tokens_read, [*tokens_read[1:], None], strict=True):
        if following is not None and following.text == "(":
            names.append(_unquote(token))
        # U&"…" writes characters by their numbers
        has_hidden_names = has_hidden_names or (
            token.text.lower() == "u" and following is not None and following.text == "&"
        )
    return list(dict.fromkeys(filter(None, names))), has_hidden_names


def list_words_and_signs(sql: str) -> tuple[list[str], str]:
    """Return the names and words of a statement, and its other characters outside of literals."""
    tokens_read = LEXER.read_significant(sql)
    words = dict.fromkeys(filter(None, map(_unquote, tokens_read)))
    signs = "".join(token.text for token in tokens_read if token.kind == "sign")
    return list(words), signs


def find_secret(plan: str, hidden: Mapping[str, Collection[str]]) -> str:
    """Return the first hidden column that a statement reads, from EXPLAIN (verbose, format json); or an empty text.

    A scan lists every column of its table, needed or not; the nodes above contain the expressions.
    """
    nodes = list(_nodes(json.loads(plan)[0]["Plan"], top=True))
    scans = [node for node, _ in nodes if "Relation Name" in node]
    for node in scans:
        table = str(node["Relation Name"])
        alias = _name_pattern(str(node.get("Alias", table)))
        for column in (*hidden.get(table, ()), *SERVER_SECRETS.get(table, ())):
            # the only table need not be named before its columns
            prefix = rf"(?:{alias})\." if len(scans) > 1 else rf"(?:(?:{alias})\.)?"
            all_columns = rf"(?:{alias})\.\*"
            column_pattern = rf"{prefix}(?:{_name_pattern(column)})(?![\w\"$.(])"
            pattern = re.compile(rf'(?<![\w"$.])(?:{all_columns}|{column_pattern})')
            if any(pattern.search(text) for other, top in nodes for text in _texts(other, is_top=top)):
                return f"{table}.{column}"
    return ""


def _nodes(node: Mapping[str, object], *, top: bool) -> Iterator[tuple[Mapping[str, object], bool]]:
    """Yield every node, and whether its output belongs to the result of a statement or of a subquery."""
    yield node, top or "Relation Name" not in node
    inner = node.get("Plans", [])
    if isinstance(inner, list):
        for child in inner:
            is_subquery = child.get("Parent Relationship") not in ("Outer", "Inner")
            yield from _nodes(child, top=is_subquery or node.get("Node Type") in APPEND_NODES)


def _texts(node: Mapping[str, object], *, is_top: bool) -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list) and key != "Plans":
            skip_columns = key == "Output" and not is_top
            yield from (
                text
                for text in value
                if isinstance(text, str) and not (skip_columns and _COLUMN.fullmatch(text))
            )


def _name_pattern(name: str) -> str:
    """Return a pattern for a name as the server writes it: quoted if necessary."""
    quoted = '"' + name.replace('"', '""') + '"'
    return f"{re.escape(name)}|{re.escape(quoted)}"
