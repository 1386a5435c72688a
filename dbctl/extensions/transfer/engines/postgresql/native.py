"""Copy a database to the same engine: its schema in the words of PostgreSQL, and its rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

from dbctl.engines.contract.database import Readable
from dbctl.engines.postgresql import dump_limits, dump_programs
from dbctl.engines.postgresql.catalog import read_scope
from dbctl.engines.postgresql.connection import PostgreSQLConnection
from dbctl.engines.postgresql.database import PostgreSQLDatabase, PostgreSQLReader, PostgreSQLWriter
from dbctl.engines.postgresql.dump import PostgreSQLDumper
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.extensions.transfer.engines.postgresql import native_catalog
from dbctl.extensions.transfer.engines.postgresql.derive import PostgreSQLValueScreen
from dbctl.extensions.transfer.engines.postgresql.native_catalog import (
    IN_SCOPE,
    POPULATED,
    SchemaText,
    parse_schema,
)
from dbctl.extensions.transfer.engines.postgresql.rows import (
    PostgreSQLRowSink,
    PostgreSQLRowSource,
    PostgreSQLWriteLock,
    PostgreSQLWriteProofs,
)
from dbctl.extensions.transfer.engines.postgresql.schema import PostgreSQLPortableSchemas
from dbctl.extensions.transfer.engines.postgresql.versions import PostgreSQLVersions
from dbctl.extensions.transfer.portable.contract import LineColumn, Omission
from dbctl.extensions.transfer.portable.native import (
    Definitions,
    NativeNames,
    NativeObject,
    NativeRules,
    NativeSchema,
    NativeSchemas,
    NativeTable,
    list_definitions,
    order_columns,
)

INTEGERS = ("smallint", "integer", "bigint")


class PostgreSQLNativeRows(PostgreSQLRowSource):
    """The part ``RowSource`` for rows without any conversion."""

    _names: NativeNames

    def has_integer_order(self, table: str, column: str) -> bool:
        native = self._names.require_native(table)
        return list(native.key) == [column] and native.columns[column] in INTEGERS

    def value_reader(self, table: str, column: str) -> Callable[[bytes], object]:
        del table, column  # a value is the text of the server
        return lambda value: value.decode(errors="replace")

    def _select(self, table: str, columns: Sequence[LineColumn]) -> str:
        names = ", ".join(self._expression(table, column) for column in columns)
        # rows of child tables are those of other tables
        rows = f"only {self._names.quote_table(table)}"
        if condition := self._names.require_native(table).condition:
            rows = f"(select * from {rows} {condition}) r"
        return f"select {names} from {rows}"


class PostgreSQLNativeSink(PostgreSQLRowSink):
    """The part ``RowSink`` for rows without any conversion."""

    def list_attachments(self, *, indexes: bool) -> Sequence[tuple[str, Sequence[str]]]:
        scope = {"scope": read_scope(self._connection.session)}
        self._connection.run("set search_path = ''")  # the server writes qualified names
        guards = self._fetch_attachments(IN_SCOPE, scope, indexes=indexes)
        views = self._connection.fetch(POPULATED, scope)
        self._connection.apply_settings()
        return [
            *guards,
            *(
                ("", [f"refresh materialized view {ident(str(schema))}.{ident(str(name))}"])
                for schema, name in views
            ),
        ]


class SchemaDumper(PostgreSQLDumper):
    """Dumps the schema of a database, without rows."""

    def dump_schema(self, scope: str, *options: str) -> str:
        """Return the statements that create the schema ``scope``, from the snapshot of the open transaction; empty: the whole database.

        ``options`` are further ones of pg_dump.

        Raises:
            As ``dump``.
        """
        session, target = self._connection.session, self._connection.target
        version = session.info.server_version // 10000
        tool = dump_programs.find_program("pg_dump", target, min_version=version, url=session.url)
        arguments = [
            *self.list_arguments("plain", (), scope),
            "--schema-only",
            "--no-subscriptions",
            *options,
        ]
        with self.run_program(tool, arguments) as client:
            text = b"".join(client.blocks())
            if client.finish():
                raise self.create_error(client)
        return text.decode("utf-8", "surrogateescape")


#: Settings of a program that loads a dump; every name in it is qualified.
LOAD_SETTINGS = {
    "search_path": "",
    "check_function_bodies": "off",
    "client_min_messages": "warning",
    "default_tablespace": "",
}
#: The access method of tables without another one; servers before PostgreSQL 12 have no such setting.
LOAD_ACCESS_METHOD = "select pg_catalog.set_config(name, 'heap', false) from pg_catalog.pg_settings where name = 'default_table_access_method'"
SEARCH_PATH = "select array_to_json(pg_catalog.current_schemas(false))::text"
#: Options of pg_dump without what a destination that lacks the roles could not have.
WITHOUT_ROLES = ("--no-owner", "--no-privileges")


class PostgreSQLNativeSchemas(NativeSchemas):
    row_source, row_sink = PostgreSQLNativeRows, PostgreSQLNativeSink
    _db: PostgreSQLDatabase
    _connection: PostgreSQLConnection
    refuses_orphans = True
    counting = "select count(*) from only {} {}"

    def prepare(self, destination: Readable, state_table: str) -> NativeRules:
        session, other = self._connection.session, cast("PostgreSQLDatabase", destination).connection
        scope, new_scope, old, new = read_scope(session), read_scope(other.session), "", ""
        if scope or new_scope:
            scope, new_scope = old, new = session.schema, other.session.schema
        known = {str(name): bool(may_use) for name, may_use in other.fetch(native_catalog.KNOWN_ROLES)}
        roles = self._connection.fetch(native_catalog.ROLES, {"scope": scope})
        lacking = [
            str(role)
            for role, is_owner in roles
            if str(role) not in known or (is_owner and not known[str(role)])
        ]
        ((encoding,),) = other.fetch(native_catalog.ENCODING)
        return {
            "scope": scope,
            "destination_scope": new_scope,
            "old": old,
            "new": new,
            "roles": json.dumps(lacking),
            "user": other.session.info.user,
            "version": str(other.session.info.server_version // 10000),
            "encoding": str(encoding),
            "state": state_table,
        }

    def read_native(self, rules: NativeRules) -> NativeSchema:
        text = self._read_text(rules, rules["scope"], rules["old"])
        return NativeSchema(
            before=text.before,
            after=[*text.after, *self._list_refreshes(rules)],
            tables=self._read_tables(rules),
            omissions=list(self._list_omissions(rules)),
        )

    def read_definitions(self, rules: NativeRules) -> Definitions:
        text = self._read_text(rules, rules["destination_scope"], rules["new"])
        return list_definitions([*text.before, *text.after])

    def _read_text(self, rules: NativeRules, scope: str, schema: str) -> SchemaText:
        dumper = SchemaDumper(cast("PostgreSQLReader", self._db))
        options = WITHOUT_ROLES if json.loads(rules["roles"]) else ()
        return parse_schema(
            dumper.dump_schema(scope, *options),
            version=int(rules["version"]),
            old=schema,
            new=rules["new"],
            ignored=rules["state"],
        )

    def _read_tables(self, rules: NativeRules) -> list[NativeTable]:
        rows = self._connection.fetch_by_name(native_catalog.TABLES, {"scope": rules["scope"]})
        ((path,),) = self._connection.fetch(SEARCH_PATH)
        places = {(str(row["schema"]), str(row["name"])): index for index, row in enumerate(rows)}
        return [
            NativeTable(
                name=name,
                place=f"{ident(row['schema'])}.{ident(row['name'])}",
                destination=f"{ident(_rename(row['schema'], rules))}.{ident(row['name'])}",
                object_name=f"{_rename(row['schema'], rules)}.{row['name']}",
                columns=order_columns(dict(row["columns"]), row["key"]),
                key=row["key"],
                condition=row["condition"],
            )
            for name, row in (
                (name, rows[index])
                for name, index in dump_programs.index_by_app_name(places, str(path)).items()
            )
            if name != rules["state"]
        ]

    def _list_refreshes(self, rules: NativeRules) -> Iterator[NativeObject]:
        for schema, name in self._connection.fetch(native_catalog.POPULATED, {"scope": rules["scope"]}):
            view = f"{ident(_rename(str(schema), rules))}.{ident(str(name))}"
            yield NativeObject(
                kind="rows",
                name=str(name),
                statements=[f"refresh materialized view {view}"],
                is_compared=False,
            )

    def _list_omissions(self, rules: NativeRules) -> Iterator[Omission]:
        for role in json.loads(rules["roles"]):
            reason = f"the destination has no such role that its user may use: objects belong to {rules['user']}, without grants"
            yield Omission(kind="role", name=role, reason=reason)
        yield from self._connection.fetch_as(Omission, native_catalog.OMISSIONS, {"scope": rules["scope"]})
        if rules["new"] and not read_scope(self._connection.session):
            for (name,) in self._connection.fetch(native_catalog.OTHER_SCHEMAS, {"scope": rules["scope"]}):
                reason = "the address of the destination names one schema"
                yield Omission(kind="schema", name=str(name), reason=reason, is_blocking=True)
        ((encoding,),) = self._connection.fetch(native_catalog.ENCODING)
        if rules["encoding"] not in (str(encoding), "UTF8"):
            reason = f"the destination has {rules['encoding']}"
            yield Omission(kind="encoding", name=str(encoding), reason=reason, is_blocking=True)

    def create_objects(self, statements: Sequence[str]) -> None:
        self._connection.run("; ".join(f"set {name} = '{text}'" for name, text in LOAD_SETTINGS.items()))
        self._connection.fetch(LOAD_ACCESS_METHOD)
        super().create_objects(statements)
        self._connection.apply_settings()

    def read_values(self, rules: NativeRules, *, is_destination: bool = False) -> Mapping[str, str]:
        scope = rules["destination_scope" if is_destination else "scope"]
        result = {}
        for schema, name in self._connection.fetch(native_catalog.SEQUENCES, {"scope": scope}):
            place = f"{ident(str(schema))}.{ident(str(name))}"
            ((last, is_called),) = self._connection.fetch(f"select last_value, is_called from {place}")
            new_place = f"{ident(_rename(str(schema), rules))}.{ident(str(name))}"
            result[new_place] = f"{last}, {'true' if is_called else 'false'}"
        return result

    def value_statements(self, values: Mapping[str, str]) -> Sequence[str]:
        return [f"select pg_catalog.setval({quote_literal(name)}, {text})" for name, text in values.items()]

    def list_contents(self) -> Sequence[str]:
        scope = read_scope(self._connection.session)
        return [str(name) for (name,) in self._connection.fetch(native_catalog.CONTENTS, {"scope": scope})]

    def drop_statements(self, rules: NativeRules) -> Sequence[str]:
        # Schemas remain: an empty one may have been there before, and its user may not create it again.
        return [dump_limits.empty_statement(rules["destination_scope"]).removesuffix(";")]


def _rename(schema: str, rules: NativeRules) -> str:
    return rules["new"] if rules["new"] and schema == rules["old"] else schema


def create_parts(db: PostgreSQLDatabase) -> list[object]:
    """Return the parts that only transfers use."""
    parts: list[object] = [
        PostgreSQLNativeSchemas(db),
        PostgreSQLPortableSchemas(db),
        PostgreSQLRowSource(db),
        PostgreSQLValueScreen(db),
        PostgreSQLVersions(db),
        PostgreSQLWriteLock(db),
    ]
    return (
        [*parts, PostgreSQLRowSink(db), PostgreSQLWriteProofs(db)]
        if isinstance(db, PostgreSQLWriter)
        else parts
    )
