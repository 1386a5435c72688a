"""What a person asks in SQL: what of it a read-only transaction does not stop, and what of it reads secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping

from dbctl.engines.parsing import Token
from dbctl.engines.postgresql.sql.lexer import tokens

#: How a statement begins that can be asked. COPY can run programs on the server, and DO whatever it likes.
ASKING = frozenset({"select", "with", "values", "table", "show", "explain"})
#: Of these the server tells what they read.
PLANNED = frozenset({"select", "with", "values", "table"})
#: What else EXPLAIN tells of; a read-only transaction never runs it.
CHANGING = frozenset({"insert", "update", "delete", "merge"})

#: Tables that inherit from others, over however many steps.
HEIRS = """with recursive heirs(heir, named) as (
  select i.inhrelid, c.relname from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhparent
  where c.relname = any(:names)
  union select i.inhrelid, h.named from pg_catalog.pg_inherits i join heirs h on h.heir = i.inhparent)
select c.relname, h.named from heirs h join pg_catalog.pg_class c on c.oid = h.heir"""

#: Functions of the server, or in machine code, that do more than read their arguments; ``names`` are those asked for.
#: They end other sessions, read and write files of the server, run further SQL, or reach other servers, and no
#: transaction takes that back.
VOLATILE = """select distinct p.proname::text from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
where p.proname = any(:names) and p.provolatile = 'v' and (l.lanname in ('internal', 'c') or not l.lanpltrusted)
order by 1"""
#: Those of them that tell something, and do nothing.
HARMLESS = frozenset(
    [
        "array_sample",
        "array_shuffle",
        "clock_timestamp",
        "currval",
        "gen_random_bytes",
        "gen_random_uuid",
        "gen_salt",
        "lastval",
        "pg_blocking_pids",
        "pg_control_checkpoint",
        "pg_control_init",
        "pg_control_recovery",
        "pg_control_system",
        "pg_current_wal_flush_lsn",
        "pg_current_wal_insert_lsn",
        "pg_current_wal_lsn",
        "pg_database_size",
        "pg_indexes_size",
        "pg_is_in_backup",
        "pg_is_in_recovery",
        "pg_is_wal_replay_paused",
        "pg_last_wal_receive_lsn",
        "pg_last_wal_replay_lsn",
        "pg_last_xact_replay_timestamp",
        "pg_partition_ancestors",
        "pg_partition_tree",
        "pg_relation_filepath",
        "pg_relation_size",
        "pg_safe_snapshot_blocking_pids",
        "pg_sequence_last_value",
        "pg_sequence_parameters",
        "pg_sleep",
        "pg_stat_get_wal_receiver",
        "pg_stat_statements",
        "pg_table_size",
        "pg_tablespace_size",
        "pg_total_relation_size",
        "pgstatindex",
        "pgstattuple",
        "pgstattuple_approx",
        "random",
        "random_normal",
        "setseed",
        "timeofday",
        "txid_current_if_assigned",
        "uuid_generate_v1",
        "uuid_generate_v1mc",
        "uuid_generate_v4",
        "uuidv4",
        "uuidv7",
    ]
)


#: Functions that run SQL which no plan shows, though the server takes them for such as only read.
RUNNING = re.compile(
    r"(?:table|schema|database|query|cursor)_to_xml(?:_and_xmlschema)?|crosstab[234n]?|connectby|xpath_table"
)

#: Where the server keeps samples of the values of all columns, and the secrets of its own.
SERVER = {
    "pg_statistic": [f"stavalues{number}" for number in range(1, 6)],
    "pg_statistic_ext_data": ["stxdmcv"],
    "pg_authid": ["rolpassword"],
    "pg_subscription": ["subconninfo"],
    "pg_user_mapping": ["umoptions"],
}
#: Nodes whose own columns are none of a table, so that what they read stands in the node below alone.
GATHERING = frozenset({"Append", "Merge Append", "Recursive Union", "SetOp"})
#: Words that can follow a table in a statement, and are no name for it.
RESERVED = frozenset(
    """all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
    column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze
    from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
    localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
    returning right select session_user similar some symmetric system_user table tablesample then to trailing true
    union unique user using variadic verbose when where window with""".split()  # noqa: SIM905 - a hundred words
)
_COLUMN = re.compile(r'(?:(?:[^\W\d][\w$]*|"(?:[^"]|"")*")\.)?(?:[^\W\d][\w$]*|"(?:[^"]|"")*")')


def first_word(sql: str) -> str:
    """Return the word that a statement begins with, in lower case."""
    return next((token.text for token in tokens(sql) if token.kind == "word"), "").lower()


def explained(sql: str) -> str:
    """Return the statement that an EXPLAIN is about; any other as it is."""
    read = [token for token in tokens(sql) if token.kind not in ("space", "comment")]
    words = [token.text.lower() for token in read]
    if not words or words[0] != "explain":
        return sql
    at = 1
    while at < len(words) and words[at] in ("analyze", "analyse", "verbose"):
        at += 1
    if (
        words[at : at + 1] == ["("]
        and not PLANNED.intersection(words[at + 1 : at + 2])
        and words[at + 1 : at + 2] != ["("]
    ):
        at = words.index(")", at) + 1 if ")" in words[at:] else len(words)
    return sql[read[at].start :] if at < len(read) else ""


def renamed(sql: str, hidden: Collection[str]) -> str:
    """Return the first table of ``hidden`` whose columns a statement gives other names, with ``.*``; or nothing.

    The server tells these names and no others.
    """
    read = [token for token in tokens(sql) if token.kind not in ("space", "comment")]
    for at, token in enumerate(read):
        if _plain(token) not in hidden:
            continue
        rest = [one for one in read[at + 1 : at + 6] if one.text not in (")", "*")]
        if rest and rest[0].text.lower() == "as":
            rest = rest[1:]
        named = len(rest) > 1 and (
            rest[0].kind == "name" or (rest[0].kind == "word" and rest[0].text.lower() not in RESERVED)
        )
        if named and rest[1].text == "(":
            return f"{_plain(token)}.*"
    return ""


def _plain(token: Token) -> str:
    """Return a name as the server keeps it."""
    if token.kind == "word":
        return token.text.lower()
    return token.text[1:-1].replace('""', '"') if token.kind == "name" else ""


def called(sql: str) -> tuple[list[str], bool]:
    """Return the names that a statement calls as functions, and whether it spells names in a way that hides them."""
    read = [token for token in tokens(sql) if token.kind not in ("space", "comment")]
    found, strange = [], False
    for token, after in zip(read, [*read[1:], None], strict=True):
        if after is not None and after.text == "(":
            found.append(_plain(token))
        # U&"…" spells letters by their numbers
        strange = strange or (token.text.lower() == "u" and after is not None and after.text == "&")
    return list(dict.fromkeys(filter(None, found))), strange


def secrets_read(plan: str, hidden: Mapping[str, Collection[str]]) -> str:
    """Return the first of the hidden columns that a statement reads, by what EXPLAIN (verbose, format json) told; or nothing.

    A scan tells every column of its table, needed or not; what is made of them stands in the nodes above.
    """
    nodes = list(_nodes(json.loads(plan)[0]["Plan"], top=True))
    scans = [node for node, _ in nodes if "Relation Name" in node]
    for node in scans:
        table = str(node["Relation Name"])
        alias = _spelled(str(node.get("Alias", table)))
        for column in (*hidden.get(table, ()), *SERVER.get(table, ())):
            # the only table there is need not be named before its columns
            prefix = rf"(?:{alias})\." if len(scans) > 1 else rf"(?:(?:{alias})\.)?"
            whole, one = rf"(?:{alias})\.\*", rf"{prefix}(?:{_spelled(column)})(?![\w\"$.(])"
            named = re.compile(rf'(?<![\w"$.])(?:{whole}|{one})')
            if any(named.search(text) for other, top in nodes for text in _texts(other, whole=top)):
                return f"{table}.{column}"
    return ""


def _nodes(node: Mapping[str, object], *, top: bool) -> Iterator[tuple[Mapping[str, object], bool]]:
    """Yield every node, and whether what it gives out is what a statement, or one inside it, asked for."""
    yield node, top or "Relation Name" not in node
    inner = node.get("Plans", [])
    if isinstance(inner, list):
        for one in inner:
            apart = one.get("Parent Relationship") not in ("Outer", "Inner")
            yield from _nodes(one, top=apart or node.get("Node Type") in GATHERING)


def _texts(node: Mapping[str, object], *, whole: bool) -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list) and key != "Plans":
            plain = key == "Output" and not whole
            yield from (
                one for one in value if isinstance(one, str) and not (plain and _COLUMN.fullmatch(one))
            )


def _spelled(name: str) -> str:
    """Return a pattern for a name as the server spells it: in quotes where it has to be."""
    quoted = '"' + name.replace('"', '""') + '"'
    return f"{re.escape(name)}|{re.escape(quoted)}"
