"""Live tables, the schema as a value, sequences, and rights of the account."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, cast

import msgspec

from dbctl.engines.contract.database import Reference, Table
from dbctl.engines.contract.schema import Schema, collapse_spaces
from dbctl.engines.mysql.connection import MySQLConnection
from dbctl.engines.mysql.grants import find_place, parse_grant
from dbctl.engines.mysql.opening import quote
from dbctl.engines.mysql.values import KINDS, MySQLColumn, MySQLTable, normalize_type, parse_labels
from dbctl.engines.parsing.statements import unquote_name
from dbctl.engines.servers.database import (
    NamedRow,
    Rows,
    ServerCatalog,
    ServerSchemaReader,
    group_rows,
    sort_indexes,
    sort_references,
)
from dbctl.engines.servers.values import NATIVE, Kind
from dbctl.engines.sql.catalog import ident
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.model import Struct

TABLES = """select t.table_name, t.table_type = 'VIEW', coalesce(t.engine, ''),
  t.table_type = 'VIEW' or coalesce(e.transactions = 'YES', false)
from information_schema.tables t left join information_schema.engines e on e.engine = t.engine
where t.table_schema = database() and t.table_type in ('BASE TABLE', 'SYSTEM VERSIONED', 'VIEW')"""
COLUMNS = """select table_name as "table", column_name as name, column_type as type, data_type as base, is_nullable = 'YES' as nullable,
  column_default is not null as has_default, lower(extra) as attributes, column_key = 'PRI' as is_primary_key,
  coalesce(character_set_name, '') as charset, coalesce(collation_name, '') as collation
from information_schema.columns where table_schema = database() order by table_name, ordinal_position"""
#: The columns of the foreign keys of tables, in their order.
KEYS = """select k.table_schema as home, k.table_name as owner, k.constraint_name as name, k.column_name as source,
  k.referenced_table_schema as "schema", k.referenced_table_schema = database() as is_local, k.referenced_table_name as "table",
  k.referenced_column_name as target, r.update_rule as on_update, r.delete_rule as on_delete
from information_schema.key_column_usage k join information_schema.referential_constraints r
  on r.constraint_schema = k.constraint_schema and r.constraint_name = k.constraint_name and r.table_name = k.table_name
where {} and k.referenced_table_name is not null
order by k.table_schema, k.table_name, k.constraint_name, k.ordinal_position"""
#: The condition that foreign key ``r`` is in another database than the table to which it refers; ``{0}`` is SQL for the name of the latter.
IS_OUTSIDE = "r.unique_constraint_schema = {0} and cast(r.constraint_schema as binary) <> cast({0} as binary)"
#: Which keys: those of tables of the database, and those of tables of other databases that refer to tables of this one.
OWN_KEYS = KEYS.format("k.table_schema = database()")
OUTSIDE_KEYS = KEYS.format(IS_OUTSIDE.format("database()"))


def read_foreign_keys(connection: MySQLConnection, sql: str = OWN_KEYS) -> Iterator[NamedRow]:
    """Yield foreign keys, with their ``columns`` and those ``to`` which they refer."""
    by_key = itemgetter("home", "owner", "name")
    for _, group in groupby(sorted(connection.fetch_by_name(sql), key=by_key), key=by_key):
        parts = list(group)
        columns, to = [part["source"] for part in parts], [part["target"] for part in parts]
        yield {**parts[0], "columns": columns, "to": to}


class MySQLCatalog(ServerCatalog):
    connection: MySQLConnection
    _outside: Mapping[str, Sequence[Reference]] | None = None

    def _read_tables(self) -> Mapping[str, Table]:
        columns: dict[str, dict[str, MySQLColumn]] = {}
        for row in self.connection.fetch_by_name(COLUMNS):
            columns.setdefault(row["table"], {})[row["name"]] = _create_column(row)
        rows = cast(
            "list[tuple[str, int, str, int]]", sorted(self.connection.fetch(TABLES), key=itemgetter(0))
        )
        return {
            name: MySQLTable(
                name=name,
                columns=columns.get(name, {}),
                is_view=bool(is_view),
                storage_engine=storage_engine,
                transactional=bool(transactional),
            )
            for name, is_view, storage_engine, transactional in rows
            # Both lists are read without a snapshot: a table without columns was created between them.
            if is_view or name in columns
        }

    def _read_references(self) -> Mapping[str, Sequence[Reference]]:
        references = defaultdict[str, list[Reference]](list)
        for key in read_foreign_keys(self.connection):
            if key["is_local"]:
                reference = msgspec.convert({**key, "table": key["owner"]}, Reference)
                references[key["table"]].append(reference)
        return references

    def outside_references(self, table: str) -> Sequence[Reference]:
        if self._outside is None:  # the query reads the tables of all databases, which few commands need
            self._outside = outside = defaultdict[str, list[Reference]](list)
            for key in read_foreign_keys(self.connection, OUTSIDE_KEYS):
                place = f"{ident(key['home'])}.{ident(key['owner'])}"
                outside[key["table"]].append(msgspec.convert({**key, "table": place}, Reference))
        return self._outside.get(table, ())

    def forget(self) -> None:
        super().forget()
        self._outside = None


def _create_column(row: dict[str, Any]) -> MySQLColumn:
    kind: Kind = KINDS.get(row["base"], "other")
    is_generated = any(f"{word} generated" in row["attributes"] for word in ("virtual", "stored"))
    auto_increment = "auto_increment" in row["attributes"]
    fields = {
        "type": normalize_type(row["type"]),
        "required": not (row["nullable"] or row["has_default"] or auto_increment or is_generated),
        "is_generated": is_generated,
        "native": NATIVE.get(kind, ""),
        "labels": parse_labels(row["type"]) if kind == "enum" else (),
        "kind": kind,
        "auto_increment": auto_increment,
    }
    return msgspec.convert({**row, **fields}, MySQLColumn, strict=False)


#: A server lists the default ``page_checksum`` of Aria only after a statement with it, such as that of ``SHOW CREATE TABLE``.
SCHEMA_TABLES = """select table_name as name, engine, table_collation as collation,
  trim(replace(coalesce(create_options, ''), 'page_checksum=1', '')) as options,
  table_comment as comment, case table_type when 'SYSTEM VERSIONED' then 'with system versioning' end as versions
from information_schema.tables
where table_schema = database() and table_type in ('BASE TABLE', 'SYSTEM VERSIONED') order by table_name"""
#: How the rows of partitioned tables are distributed. Apps add partitions while they run, so the partitions are not compared.
PARTITIONS = """select table_name as owner, concat('partition by ', lower(min(partition_method)), ' ', coalesce(min(partition_expression), ''),
    coalesce(concat(' subpartition by ', lower(min(subpartition_method)), ' ', min(subpartition_expression)), '')) as text
from information_schema.partitions where table_schema = database() and partition_name is not null group by table_name order by 1"""
SCHEMA_COLUMNS = """select table_name as owner, column_name as name, column_type as type, is_nullable = 'YES' as nullable,
  column_default as "default", coalesce(collation_name, '') as collation, lower(coalesce(extra, '')) as attributes,
  coalesce(generation_expression, '') as expression, coalesce(character_set_name, '') as charset, column_comment as comment
from information_schema.columns where table_schema = database() order by table_name, ordinal_position"""
#: For queries of indexes, by whether the server is MariaDB: whether no other query reads an index, and a term that is no column.
INDEX_SQL = {True: ("ignored = 'YES'", "''"), False: ("is_visible = 'NO'", "expression")}
INDEXES = """select table_name as owner, index_name as name, non_unique = 0 as "unique", index_type as kind, index_comment as comment, column_name as "column", {} as is_ignored,
  concat(coalesce(column_name, {}), case when sub_part is null then '' else concat('(', sub_part, ')') end,
    case collation when 'D' then ' desc' else '' end) as term
from information_schema.statistics where table_schema = database() order by table_name, index_name, seq_in_index"""
CHECKS = """select t.table_name as owner, {} as clause from information_schema.check_constraints c
join information_schema.table_constraints t
  on t.constraint_schema = c.constraint_schema and t.constraint_name = c.constraint_name {}
where t.table_schema = database() and t.constraint_type = 'CHECK' order by 1, 2"""
#: The names of the checks of MariaDB are unique in a table only.
MARIADB_CHECKS = CHECKS.format("c.check_clause", "and t.table_name = c.table_name")
#: The end of a check of MySQL that only documents a rule.
NOT_ENFORCED = " not enforced"
MYSQL_CHECKS = CHECKS.format(
    f"concat(c.check_clause, case t.enforced when 'NO' then '{NOT_ENFORCED}' else '' end)", ""
)
_VIEWS = """select 'view' as kind, table_name as name, coalesce(view_definition, '') as text,
  concat({}case security_type when 'INVOKER' then ' sql security invoker' else '' end,
    case check_option when 'NONE' then '' else lower(concat(' with ', check_option, ' check option')) end) as properties
from information_schema.views where table_schema = database() order by table_name"""
VIEWS = _VIEWS.format("")
#: With a property that MySQL does not list: how a view is computed, which decides whether it accepts rows.
MARIADB_VIEWS = _VIEWS.format(
    "case algorithm when 'UNDEFINED' then '' else lower(concat(' algorithm ', algorithm)) end, "
)
TRIGGERS = """select 'trigger' as kind, trigger_name as name, event_object_table as "table",
  concat_ws(' ', action_timing, event_manipulation, action_statement) as text, '' as properties
from information_schema.triggers where trigger_schema = database() order by trigger_name"""
COMMENTS = """select '' as name, table_comment from information_schema.tables
where table_schema = database() and table_name = :table and table_type <> 'VIEW' and table_comment <> ''
union all select column_name, column_comment from information_schema.columns
where table_schema = database() and table_name = :table and column_comment <> ''"""

#: System-versioned tables, and whether they are versioned by transactions instead of timestamps.
VERSIONED = """select t.table_name, max(c.data_type = 'bigint') from information_schema.tables t
left join information_schema.columns c on c.table_schema = t.table_schema and c.table_name = t.table_name
  and c.generation_expression = 'ROW START'
where t.table_schema = database() and t.table_type = 'SYSTEM VERSIONED' group by t.table_name order by 1"""


#: Since this version, the program of MariaDB dumps history, and its server restores it.
HISTORY_VERSION = (10, 11)


class History(NamedTuple):
    """The tables that store earlier versions of their rows."""

    dumped: Sequence[str]  #: those whose dumps have the versions
    lost: Sequence[str]  #: those whose dumps do not


def find_history(connection: MySQLConnection, tables: Sequence[str] = ()) -> History:
    """Return the tables with history among ``tables``, or all: the program dumps the history of each of them, or of none."""
    if not connection.server.is_mariadb:
        return History((), ())
    versioned = {
        str(name): by_transactions
        for name, by_transactions in connection.fetch(VERSIONED)
        if not tables or name in tables
    }
    is_lost = connection.server.version[:2] < HISTORY_VERSION or any(versioned.values())
    return History((), list(versioned)) if is_lost else History(list(versioned), ())


class MySQLSchemaReader(ServerSchemaReader):
    _connection: MySQLConnection
    comments_sql = COMMENTS

    def _fetch_schema(self) -> Schema:
        fetch = self._connection.fetch_by_name
        ((name,),) = self._connection.fetch("select database()")
        builder = _Builder(str(name))
        is_mariadb = self._connection.server.is_mariadb
        columns, indexes, checks = (
            group_rows(fetch(sql))
            for sql in (
                SCHEMA_COLUMNS,
                INDEXES.format(*INDEX_SQL[is_mariadb]),
                MARIADB_CHECKS if is_mariadb else MYSQL_CHECKS,
            )
        )
        groups = columns, indexes, group_rows(read_foreign_keys(self._connection)), checks
        rows = list(fetch(SCHEMA_TABLES))
        if any("partitioned" in row["options"] for row in rows):  # the query opens every table
            partitions = {row["owner"]: row["text"] for row in fetch(PARTITIONS)}
            for row in rows:
                row["options"] = row["options"].replace("partitioned", partitions.get(row["name"], ""))
        tables = [builder.build_table(row, *(group[row["name"]] for group in groups)) for row in rows]
        codes = [*fetch(MARIADB_VIEWS if is_mariadb else VIEWS), *fetch(TRIGGERS)]
        for code in codes:
            code["text"] = builder.normalize(code["text"]) + code["properties"]
        return msgspec.convert({"tables": tables, "codes": codes}, Schema, strict=False)


class _Builder:
    def __init__(self, database: str) -> None:
        self._prefix, self._sequence_prefix = f"{quote(database)}.", f"nextval({ident(database)}."

    def normalize(self, text: str) -> str:
        """Return an expression without the name of the database, which servers add to every table."""
        return collapse_spaces(text.replace(self._prefix, ""))

    def build_table(
        self, row: NamedRow, columns: Rows, indexes: Rows, references: Rows, checks: Rows
    ) -> NamedRow:
        parts = {name: list(rows) for name, rows in groupby(indexes, key=lambda row: row["name"])}
        primary_key = parts.pop("PRIMARY", [])
        options = [f"engine {row['engine']}", f"collate {row['collation']}", row["options"], row["versions"]]
        options += [f"index {name} ignored" for name, rows in parts.items() if rows[0]["is_ignored"]]
        # of other columns it is one of the attributes
        hidden = [
            column for column in columns if column["expression"] and "invisible" in column["attributes"]
        ]
        options += [f"column {column['name']} invisible" for column in hidden]
        return {
            "name": row["name"],
            "columns": [self._build_column(column, row["collation"]) for column in columns],
            "key": [part["column"] for part in primary_key],
            "indexes": sort_indexes([_build_index(rows) for rows in parts.values()]),
            "references": sort_references(references),
            "checks": sorted(self.normalize(check["clause"]) for check in checks),
            "options": sorted(filter(None, options)),
        }

    def _build_column(self, row: NamedRow, table_collation: str) -> NamedRow:
        row["generated"] = row["attributes"].replace("default_generated", "").strip()
        if row["expression"]:
            kind = "stored" if "stored" in row["attributes"] else "virtual"
            row["generated"] = f"{self.normalize(row['expression'])} {kind}"
        row["type"] = row["storage"] = normalize_type(row["type"])
        if row["default"] == "NULL" and row["nullable"]:
            row["default"] = None
        if row["default"]:
            row["default"] = row["default"].replace(self._sequence_prefix, "nextval(")
        if row["collation"] == table_collation:
            row["collation"] = ""
        return row


def _build_index(parts: Rows) -> NamedRow:
    method = "" if parts[0]["kind"] == "BTREE" else f" using {parts[0]['kind'].lower()}"
    return {**parts[0], "columns": [part["term"] + method for part in parts]}


#: Columns of integers whose default reads a sequence.
_DEFAULTS = """select table_name, column_name, column_default from information_schema.columns
where table_schema = database() and :table in ('', table_name) and column_default like '%nextval(%'
  and data_type like '%int' order by 1, 2"""
_NEXTVAL = re.compile(r'nextval\(("(?:[^"]|"")*")\.("(?:[^"]|"")*")\)')


class NumberedColumn(Struct, frozen=True):
    """A column, its sequence, and the value that is furthest in the direction of the sequence."""

    table: str
    column: str
    sequence: str  #: its name
    place: str  #: its name in SQL
    following: int  #: the next value that the server does not hold in memory
    furthest: int | None  #: None: no value
    is_descending: bool
    cycles: bool

    @property
    def is_behind(self) -> bool:
        """Whether a row has the next value, or one after it."""
        if self.furthest is None or self.cycles:
            return False
        return self.furthest <= self.following if self.is_descending else self.furthest >= self.following


def read_numbered_columns(connection: MySQLConnection, table: str) -> Iterator[NumberedColumn]:
    """Yield the columns of a table, empty: of all, that sequences of MariaDB number.

    Raises:
        PrivilegeMissingError, QueryFailedError: a sequence cannot be read.
    """
    if not connection.server.is_mariadb:
        return
    for owner, column, default in connection.fetch(_DEFAULTS, {"table": table}):
        if not (match := _NEXTVAL.fullmatch(str(default))):
            continue
        place = ".".join(quote(unquote_name(name)) for name in match.groups())
        ((following, step, cycles),) = connection.fetch(
            f"select next_not_cached_value, increment, cycle_option from {place}"
        )
        is_descending = int(str(step)) < 0
        aggregate = f"{'min' if is_descending else 'max'}({quote(str(column))})"
        ((furthest,),) = connection.fetch(f"select {aggregate} from {quote(str(owner))}")
        yield NumberedColumn(
            str(owner),
            str(column),
            unquote_name(match[2]),
            place,
            int(str(following)),
            None if furthest is None else int(str(furthest)),
            is_descending,
            bool(cycles),
        )


HIDDEN_TABLES = "tables and views"
#: Each shows all functions and procedures.
ROUTINE_RIGHTS = ["EXECUTE", "CREATE ROUTINE", "ALTER ROUTINE", "SHOW_ROUTINE"]
EVENTS = "show events"
#: Routines of other definers whose code the server hides from this user.
HIDDEN_CODE = """select distinct routine_name from information_schema.routines where routine_schema = database()
and routine_body = 'SQL' and routine_definition is null order by 1"""
VIEW_NAMES = (
    "select table_name from information_schema.tables where table_schema = database() and table_type = 'VIEW'"
)


def find_missing_rights(
    connection: MySQLConnection, rights: Sequence[str], table: str = "", *, database: str = ""
) -> list[str]:
    """Return those of ``rights`` that a user lacks on a database (default: that of the connection), or on ``table``."""
    database = database or connection.session.database
    granted: dict[str, set[str]] = {"GRANT": set(), "REVOKE": set()}
    for (line,) in connection.fetch("show grants"):
        grant = parse_grant(str(line))
        if grant is None or grant.name not in ("*", table):
            continue
        if grant.database == "*" or grant.is_of(database):
            granted[grant.verb] |= set(rights if "ALL PRIVILEGES" in grant.words else grant.words)
    return [right for right in rights if right not in granted["GRANT"] - granted["REVOKE"]]


def find_hidden_objects(connection: MySQLConnection) -> Mapping[str, str]:
    """Return the kinds of objects of which the server may hide some from this user without an error, with the right that shows them.

    ``SHOW GRANTS`` of MySQL lists no rights of roles, so nothing is known of a user with one.
    """
    server, place = connection.server, find_place(connection.session)
    if not server.is_mariadb and connection.fetch("select current_role()") != [("NONE",)]:
        return {}
    missing = find_missing_rights(connection, ["SELECT", "TRIGGER", *ROUTINE_RIGHTS])
    hidden = {HIDDEN_TABLES: f"SELECT ON {place}"} if "SELECT" in missing else {}
    if "TRIGGER" in missing:
        hidden["triggers"] = f"TRIGGER ON {place}"
    if missing[-len(ROUTINE_RIGHTS) :] == ROUTINE_RIGHTS and find_missing_rights(
        connection, ["SELECT"], "proc", database="mysql"
    ):
        hidden["functions and procedures"] = _code_right(connection)
    return hidden


def _code_right(connection: MySQLConnection) -> str:
    return "SELECT ON `mysql`.`proc`" if connection.server.is_mariadb else "SHOW_ROUTINE ON *.*"


def require_rights(connection: MySQLConnection, rights: Sequence[str], table: str = "") -> None:
    """Refuse a user who may not see every object of the database, or every column of a table.

    Raises:
        PrivilegeMissingError: it lacks one of ``rights`` on the database, or on ``table``.
    """
    missing = find_missing_rights(connection, rights, table)
    if not missing:
        return
    session = connection.session
    place = f"{quote(session.database)}.{quote(table)}" if table else find_place(session)
    raise PrivilegeMissingError(
        target=connection.target,
        reason=f"it may not {', '.join(missing)} on {f'every column of {table}' if table else 'every object of the database'}, and would leave out the others",
        hint=f"Nothing was changed. As an administrator: GRANT {', '.join(missing)} ON {place} TO {session.account};",
    )


def require_all_tables(connection: MySQLConnection) -> None:
    """Refuse a user from whom the server may hide tables; raises as ``require_rights``."""
    if HIDDEN_TABLES in find_hidden_objects(connection):
        require_rights(connection, ["SELECT"])


def require_dump_rights(connection: MySQLConnection, tables: Collection[str]) -> None:
    """Raise PrivilegeMissingError, with the remedy, if the program may not dump the events, code of routines, or views of ``tables`` (empty: all)."""
    session = connection.session
    names = [str(name) for (name,) in connection.fetch(VIEW_NAMES) if not tables or name in tables]
    views = [f"show create view {quote(name)}" for name in names]
    for sql in (EVENTS, *views):
        try:
            connection.fetch(sql)
        except PrivilegeMissingError as error:
            if sql == EVENTS:  # its message does not name the right
                grant = f"GRANT EVENT ON {find_place(session)} TO {session.account};"
                error.hint = f"Nothing was changed. As an administrator: {grant}"
            raise
        except DbctlError:  # a view without its table, which the program reports or dumps
            continue
    if hidden := connection.fetch(HIDDEN_CODE):
        raise PrivilegeMissingError(
            target=connection.target,
            reason=f"it may not read the code of {', '.join(str(name) for (name,) in hidden)}, which has another definer",
            hint=f"Nothing was changed. As an administrator: GRANT {_code_right(connection)} TO {session.account};",
        )
