"""What a person asks in SQL: what of it a read-only transaction does not stop, and what of it reads secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping

from dbctl.engines.postgresql.tokens import tokens

#: How a statement begins that can be asked. COPY can run programs on the server, and DO whatever it likes.
ASKING = frozenset({"select", "with", "values", "table", "show", "explain"})
#: Of these the server tells what they read.
PLANNED = frozenset({"select", "with", "values", "table"})

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


#: Where the server keeps samples of the values of all columns.
STATISTICS = {
    "pg_statistic": [f"stavalues{number}" for number in range(1, 6)],
    "pg_statistic_ext_data": ["stxdmcv"],
}


def first_word(sql: str) -> str:
    """Return the word that a statement begins with, in lower case."""
    return next((token.text for token in tokens(sql) if token.kind == "word"), "").lower()


def called(sql: str) -> tuple[list[str], bool]:
    """Return the names that a statement calls as functions, and whether it spells names in a way that hides them."""
    read = [token for token in tokens(sql) if token.kind not in ("space", "comment")]
    found, strange = [], False
    for token, after in zip(read, [*read[1:], None], strict=True):
        if after is not None and after.text == "(":
            if token.kind == "word":
                found.append(token.text.lower())
            elif token.kind == "name":
                found.append(token.text[1:-1].replace('""', '"'))
        # U&"…" spells letters by their numbers
        strange = strange or (token.text.lower() == "u" and after is not None and after.text == "&")
    return list(dict.fromkeys(found)), strange


def secrets_read(plan: str, hidden: Mapping[str, Collection[str]]) -> str:
    """Return the first of the hidden columns that a statement reads, by what EXPLAIN (verbose, format json) told; or nothing.

    A scan tells every column of its table, needed or not; what is made of them stands in the nodes above.
    """
    nodes = list(_nodes(json.loads(plan)[0]["Plan"], top=True))
    scans = [node for node, _ in nodes if "Relation Name" in node]
    for node in scans:
        table = str(node["Relation Name"])
        alias = _spelled(str(node.get("Alias", table)))
        for column in (*hidden.get(table, ()), *STATISTICS.get(table, ())):
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
            yield from _nodes(one, top=one.get("Parent Relationship") not in ("Outer", "Inner"))


def _texts(node: Mapping[str, object], *, whole: bool) -> Iterator[str]:
    for key, value in node.items():
        if key == "Output" and not whole:
            continue
        if isinstance(value, str):
            yield value
        elif isinstance(value, list) and key != "Plans":
            yield from (one for one in value if isinstance(one, str))


def _spelled(name: str) -> str:
    """Return a pattern for a name as the server spells it: in quotes where it has to be."""
    quoted = '"' + name.replace('"', '""') + '"'
    return f"{re.escape(name)}|{re.escape(quoted)}"
