"""Checks of user queries: effects that a read-only transaction does not prevent, and reads of secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping

from dbctl.engines.parsing.lexer import Token
from dbctl.engines.parsing.statements import unquote_name
from dbctl.engines.postgresql.lint import LEXER

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
