"""Monitoring of PostgreSQL: sessions, lock waits, indexes, sizes, settings, constraints, maintenance."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager

import psycopg
import pytest
from msgspec import structs

from dbctl.engines.contract.checks import FindingQuery, LockHolder
from dbctl.engines.postgresql.checks import check_encryption
from dbctl.engines.servers.database import find_problems
from dbctl.errors.connection import BusyError, PrivilegeMissingError, QueryFailedError
from dbctl.errors.usage import NotSupportedError, SchemaMismatchError
from dbctl.services.stats.indexes import classify_indexes
from tests import servers
from tests.engines.conftest import PostgreSQLFixture


@contextmanager
def create_role(postgresql, *grants):
    """Create a role with some grants, and drop it at the end."""
    name = f"{postgresql.schema}_r"
    postgresql.execute(f"create role {name} login")
    postgresql.execute(f"grant usage on schema {postgresql.schema} to {name}")
    try:
        for grant in grants:
            postgresql.execute(f"{grant} to {name}")
        yield name
    finally:
        postgresql.execute(f"drop owned by {name}")
        postgresql.execute(f"drop role {name}")


@pytest.fixture
def private_database():
    """Create a database without other sessions, because a concurrent build waits for all older transactions."""
    with servers.postgresql_database(encoding="UTF8") as url:
        database = PostgreSQLFixture(url)
        with closing(database.connection):
            yield database
            for session in database.opened:
                session.close()


@contextmanager
def run_blocked(postgresql, sql):
    """Run a statement in another session, and wait until it is blocked."""
    with closing(servers.connection(postgresql.url)) as connection:
        pid = connection.info.backend_pid

        def run():
            try:
                connection.execute(sql)
            except psycopg.Error as error:
                errors.append(error)

        errors = []
        thread = threading.Thread(target=run)
        thread.start()
        try:
            while not postgresql.rows(
                f"select from pg_stat_activity where pid = {pid} and wait_event_type = 'Lock'"
            ):
                time.sleep(0.02)
            yield pid, errors
        finally:
            postgresql.execute(f"select pg_cancel_backend({pid})")
            thread.join()


def test_null_in_a_text_field_is_empty_text(postgresql):
    connection = postgresql.reader().connection
    (holder,) = connection.fetch_as(
        LockHolder, "select 1 as pid, null::text as command, null as owner, 'open' as mode"
    )
    assert (holder.command, holder.owner, holder.transaction_seconds) == ("", "", None)
    check = FindingQuery(severity="info", code="test", sql="select null::text", message="since {0}.")
    assert [finding.message for finding in find_problems(connection, [check])] == ["since ."]


def test_lock_waits_are_listed_with_both_statements(postgresql):
    postgresql.execute("create table t (id integer primary key, a text); insert into t values (1, 'x')")
    reader = postgresql.reader()
    assert list(reader.server.list_lock_waits()) == []
    with closing(servers.connection(postgresql.url)) as holder, holder.transaction():
        holder.execute("update t set a = 'secret' where id = 1")
        with run_blocked(postgresql, "update t set a = 'other' where id = 1") as (pid, _):
            (wait,) = reader.server.list_lock_waits()
            holder_pid = holder.info.backend_pid
            sessions = {session.pid: session for session in reader.server.list_sessions()}
    assert (wait.blocked.pid, wait.blocking.pid) == (pid, holder_pid)
    assert wait.blocked.query == wait.blocking.query == "update t set a = ? where id = ?"
    assert wait.blocking.state == "idle in transaction"
    assert wait.seconds is not None
    assert 0 <= wait.seconds < 60
    assert "transactionid" in wait.lock
    assert sessions[pid].wait.startswith("Lock")
    assert sessions[pid].query_seconds >= 0
    assert sessions[holder_pid].query_seconds is None
    assert sessions[holder_pid].transaction_seconds >= 0
    assert {session.can_cancel for session in sessions.values()} == {True}


def test_sessions_are_cancelled_or_terminated(postgresql):
    postgresql.execute("create table t (id integer)")
    reader = postgresql.reader()
    for terminate in (False, True):
        with closing(servers.connection(postgresql.url)) as holder, holder.transaction():
            holder.execute("lock table t in access exclusive mode")
            with run_blocked(postgresql, "select * from t") as (pid, errors):
                assert reader.server.cancel(pid, terminate=terminate)
                while not errors:
                    time.sleep(0.02)
            kind = psycopg.errors.AdminShutdown if terminate else psycopg.errors.QueryCanceled
            assert isinstance(errors[0], kind)
    assert not reader.server.cancel(2**30, terminate=False)


def test_role_without_rights_sees_less_and_cancels_nothing(postgresql):
    with create_role(postgresql) as name:
        reader = postgresql.reader(user=name, password=None)
        assert reader.server.visibility_limits().endswith(f'GRANT pg_read_all_stats TO "{name}";')
        pid = postgresql.connection.info.backend_pid
        (session,) = [item for item in reader.server.list_sessions() if item.pid == pid]
        assert (session.can_cancel, session.query_seconds) == (False, None)
        with pytest.raises(PrivilegeMissingError):
            reader.server.cancel(pid, terminate=False)
    assert postgresql.reader().server.visibility_limits() == ""


def test_indexes_are_listed_with_their_terms(postgresql):
    postgresql.execute(
        """create table "Us er" (id integer primary key, email text unique, a integer, b integer);
        alter table "Us er" add constraint users_email_key1 unique (email);
        create index on "Us er" (a desc, b) include (email);
        create index on "Us er" (lower(email) text_pattern_ops) where a > 3;
        create index on "Us er" (a nulls first, email collate "C");
        create table child (u integer references "Us er")"""
    )
    indexes = {index.name: index for index in postgresql.reader().storage.list_indexes()}
    assert [index.table for index in indexes.values()] == ["Us er"] * 6
    assert indexes["Us er_pkey"].primary
    assert indexes["Us er_pkey"].is_referenced
    assert {index.constraint for index in indexes.values() if index.unique} == {True}
    assert indexes["users_email_key1"].columns == indexes["Us er_email_key"].columns == ["email"]
    assert indexes["users_email_key1"].drop_statement.endswith('"Us er" DROP CONSTRAINT "users_email_key1";')
    terms = {(*index.columns, index.where) for index in indexes.values() if not index.unique}
    assert terms == {
        ("a desc", "b", "email include", ""),
        ("lower(email) text_pattern_ops", "a > 3"),
        ("a nulls first", 'email collate "C"', ""),
    }
    assert all(index.bytes > 0 and index.scans == 0 and index.valid for index in indexes.values())
    for index in indexes.values():
        if not index.is_referenced:
            postgresql.execute(index.drop_statement)


def test_unique_index_that_accepts_one_null_is_no_duplicate(postgresql):
    postgresql.execute(
        "create table t (n integer unique); create unique index one_null on t (n) nulls not distinct"
    )
    indexes = classify_indexes("", postgresql.reader().storage.list_indexes())
    assert [(index.index, index.state) for index in indexes] == [("one_null", None), ("t_n_key", None)]


def test_row_counts_of_large_tables_are_estimated(postgresql):
    postgresql.execute("create table small (id integer); insert into small values (1), (2)")
    postgresql.execute("create table large (id integer, a text)")
    postgresql.execute(
        "insert into large select n, repeat('x', 1000) from generate_series(1, 20000) n; analyze large"
    )
    postgresql.execute("delete from large where id <= 100")
    reader = postgresql.reader()
    estimates = {size.table: size for size in reader.storage.measure_tables(exact=False)}
    counts = {size.table: size for size in reader.storage.measure_tables()}
    assert (estimates["small"].rows, estimates["small"].estimated) == (2, False)
    assert estimates["large"].estimated
    assert estimates["large"].rows == pytest.approx(20000, rel=0.05)
    assert (counts["large"].rows, counts["large"].estimated) == (19900, False)
    assert counts["large"].bytes >= counts["large"].table_bytes > 20_000_000
    while counts["large"].analyzed_at is None:  # before version 15 the statistics are updated later
        counts = {size.table: size for size in reader.storage.measure_tables()}


def test_each_stored_row_is_counted_once(postgresql):
    postgresql.execute("create table parent (id integer)")
    postgresql.execute("create table child (more text) inherits (parent)")
    postgresql.execute("insert into parent values (1)")
    postgresql.execute("insert into child values (2, 'a'), (3, 'b')")
    postgresql.execute("create view seen as select id from parent")
    postgresql.execute("create materialized view stored as select id from parent")
    postgresql.execute("create unique index stored_id on stored (id)")
    postgresql.execute("create materialized view empty as select id from parent with no data")
    sizes = {size.table: size for size in postgresql.reader().storage.measure_tables()}
    assert {name: size.rows for name, size in sizes.items()} == {
        "child": 2,
        "empty": 0,
        "parent": 1,
        "stored": 3,
    }
    assert list(sizes["stored"].indexes) == ["stored_id"]


def test_rows_in_tables_that_are_not_visible_are_those_of_their_parent(private_database):
    """As of a hypertable of TimescaleDB."""
    postgresql = private_database
    postgresql.execute("create table parent (id integer)")
    postgresql.execute("create schema chunks")
    postgresql.execute("create table chunks.one () inherits (public.parent)")
    postgresql.execute("insert into chunks.one select generate_series(1, 1000)")
    for exact in (True, False):
        (size,) = postgresql.reader().storage.measure_tables(exact=exact)
        assert (size.table, size.rows) == ("parent", 1000)
        assert size.table_bytes > 30_000


def test_bloat_is_estimated_or_measured_by_pgstattuple(private_database):
    postgresql = private_database
    postgresql.execute("create table t (id integer, a text)")
    postgresql.execute("create table unknown (id integer)")
    postgresql.execute(
        "create table parts (id integer) partition by list (id); create table part partition of parts default"
    )
    postgresql.execute("insert into t select n, repeat('x', 200) from generate_series(1, 5000) n")
    postgresql.execute("delete from t where id > 1000")
    postgresql.execute("vacuum (analyze, truncate off) t")
    estimates = {bloat.table: bloat for bloat in postgresql.reader().storage.measure_bloat()}
    assert estimates.keys() == {"t", "unknown", "part"}
    assert (estimates["unknown"].wasted_bytes, estimates["unknown"].source[:4]) == (None, "none")
    assert estimates["t"].estimated
    assert estimates["t"].wasted_bytes == pytest.approx(estimates["t"].bytes * 0.8, rel=0.1)
    assert estimates["t"].vacuumed_at is not None or estimates["t"].source == "statistics"
    if not postgresql.rows("select from pg_available_extensions where name = 'pgstattuple'"):
        return
    postgresql.execute("create extension if not exists pgstattuple")
    measured = {bloat.table: bloat for bloat in postgresql.reader().storage.measure_bloat()}["t"]
    assert measured.source == "pgstattuple"
    assert measured.rows == 1000
    assert measured.wasted_bytes == pytest.approx(estimates["t"].wasted_bytes, rel=0.1)


def test_settings_are_compared_by_value(postgresql):
    reader = postgresql.reader()
    ((max_connections,),) = postgresql.rows(
        "select setting::int from pg_settings where name = 'max_connections'"
    )
    required = {
        "work_mem": "64kB",
        "maintenance_work_mem": "100TB",
        "temp_buffers": "1",
        "max_connections": str(max_connections),
        "random_page_cost": "4.00",
        "seq_page_cost": "1.5",
        "autovacuum_vacuum_cost_delay": "2000us",
        "vacuum_cost_delay": "1ms",
        "temp_file_limit": "1GB",
        "autovacuum_naptime": "24h",
        "password_encryption": "SCRAM-SHA-256",
        "no_such_setting": "1",
        "track_counts": "yes",
    }
    comparisons = {comparison.name: comparison for comparison in reader.checks.compare_settings(required)}
    assert {name for name, comparison in comparisons.items() if comparison.is_sufficient} == {
        "work_mem",
        "temp_buffers",
        "max_connections",
        "random_page_cost",
        "autovacuum_vacuum_cost_delay",
        "temp_file_limit",
        "password_encryption",
        "track_counts",
    }
    assert comparisons["max_connections"].requires_restart
    assert not comparisons["work_mem"].requires_restart
    assert comparisons["no_such_setting"].actual is None
    assert comparisons["maintenance_work_mem"].statement == "ALTER SYSTEM SET maintenance_work_mem = '100TB';"


def test_missing_rights_have_grant_hints(postgresql):
    postgresql.execute("create table a (id serial primary key)")
    postgresql.execute('create table "B b" (id integer)')
    postgresql.execute("create view v as select 1 as one")
    with create_role(postgresql, f"grant select on {postgresql.schema}.a") as name:
        reader = postgresql.reader(user=name, password=None)

        def find_grants(*, writing):
            findings = reader.checks.server_findings(writing=writing)
            return [finding.hint for finding in findings if finding.code == "privilege-missing"]

        schema = f'"{postgresql.schema}"'
        assert find_grants(writing=False) == [f'GRANT SELECT ON TABLE {schema}."B b" TO "{name}";']
        for hint in find_grants(writing=True):
            postgresql.execute(hint)
        assert find_grants(writing=True) == find_grants(writing=False) == []
        postgresql.execute(f"revoke all on all tables in schema {postgresql.schema} from {name}")
        assert find_grants(writing=False) == [f'GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO "{name}";']


@pytest.mark.parametrize(
    ("ssl_mode", "encrypted", "expected"),
    [
        ("", False, ("error", "not-encrypted")),
        ("disable", False, ("error", "not-encrypted")),
        ("", True, ("warning", "server-not-verified")),
        ("require", True, ("info", "server-not-verified")),
        ("verify-full", True, None),
    ],
)
def test_remote_connection_must_be_encrypted_and_verified(ssl_mode, encrypted, expected):
    findings = [
        (finding.severity, finding.code) for finding in check_encryption(ssl_mode, encrypted=encrypted)
    ]
    assert findings == ([expected] if expected else [])


def test_inaccessible_schema_is_not_reported_as_empty(postgresql):
    postgresql.execute("create table t (id integer)")
    with create_role(postgresql) as name:
        postgresql.execute(f"revoke usage on schema {postgresql.schema} from {name}")
        with pytest.raises(PrivilegeMissingError) as caught:
            postgresql.reader(user=name, password=None).tables()
        assert caught.value.hint.endswith(f'GRANT USAGE ON SCHEMA "{postgresql.schema}" TO "{name}";')


def test_unreadable_sequence_has_a_grant_hint(postgresql):
    postgresql.execute("create sequence s")
    with create_role(postgresql) as name:
        postgresql.execute(f"revoke all on sequence s from {name}")
        with pytest.raises(PrivilegeMissingError) as caught:
            postgresql.reader(user=name, password=None).query("select last_value from s")
        assert "GRANT USAGE, SELECT ON SEQUENCE" in caught.value.hint


def test_hints_of_server_findings_resolve_them(postgresql):
    postgresql.execute("create unlogged table u (id integer)")
    postgresql.execute("create table t (id integer)")
    postgresql.execute("create index i on t (id); create index left_ccnew on t (id)")
    postgresql.execute(
        "update pg_index set indisvalid = false where indexrelid in ('i'::regclass, 'left_ccnew'::regclass)"
    )
    findings = {
        (finding.code, finding.hint): finding.severity
        for finding in postgresql.reader().checks.server_findings(writing=True)
    }
    schema = postgresql.schema
    assert findings["unlogged", f"ALTER TABLE {schema}.u SET LOGGED;"] == "warning"
    assert ("index-invalid", f"REINDEX INDEX CONCURRENTLY {schema}.i;") in findings
    assert ("index-leftover", f'DROP INDEX CONCURRENTLY "{schema}"."left_ccnew";') in findings
    for code, hint in findings:
        if code in ("unlogged", "index-invalid", "index-leftover"):
            postgresql.execute(hint)
    codes = {finding.code for finding in postgresql.reader().checks.server_findings(writing=True)}
    assert not codes & {"unlogged", "index-invalid", "index-leftover"}


def test_hints_about_unvalidated_constraints_resolve_them(postgresql):
    postgresql.execute(
        """create table "Pa rent" ("Id" serial primary key, up integer);
        create table child (id integer generated always as identity primary key, p integer, n integer);
        insert into "Pa rent" ("Id") values (41), (42);
        insert into child (p, n) values (41, -1);
        alter table child add constraint later foreign key (p) references "Pa rent" not valid;
        alter table child add constraint above check (n > 0) not valid"""
    )
    reader = postgresql.reader()
    findings = {finding.code: finding for finding in reader.checks.schema_findings()}
    sequence = findings["sequence-behind"]
    assert (sequence.severity, "has reached 42" in sequence.message) == ("error", True)
    assert [finding.code for finding in reader.checks.schema_findings("child")] == [
        "not-validated",
        "not-validated",
    ]
    postgresql.execute(sequence.hint)
    postgresql.execute('insert into "Pa rent" default values')
    assert [finding.code for finding in reader.checks.schema_findings()] == ["not-validated", "not-validated"]
    hints = {finding.message.split()[-0]: finding.hint for finding in reader.checks.schema_findings()}
    assert len(hints) == 2
    postgresql.execute("update child set n = 1")
    for hint in hints.values():
        postgresql.execute(hint)
    assert list(reader.checks.schema_findings()) == []


@pytest.mark.postgresql(18)
def test_declared_constraints_and_those_of_periods_have_no_orphans(postgresql):
    postgresql.execute(
        """create table parent (id integer primary key);
        create table child (id integer primary key, p integer, n integer,
          constraint declared foreign key (p) references parent on delete cascade not enforced,
          constraint above check (n > 0) not enforced);
        create table stay (rooms int4range, during daterange, primary key (rooms, during without overlaps));
        create table meal (rooms int4range, during daterange,
          foreign key (rooms, period during) references stay (rooms, period during));
        insert into child values (1, 41, -1);
        insert into stay values ('[1,3)', '[2026-01-01,2026-01-05)'), ('[1,3)', '[2026-01-05,2026-01-09)');
        insert into meal values ('[1,3)', '[2026-01-04,2026-01-06)');
        alter table meal add column n integer, add constraint known not null n not valid"""
    )
    reader = postgresql.reader()
    assert list(reader.checks.find_checkable_orphans()) == []
    assert [*reader.references("parent"), *reader.references("stay")] == []
    findings = {finding.message: finding for finding in reader.checks.schema_findings()}
    assert {message: finding.code for message, finding in findings.items()} == {
        "foreign key declared of child is not enforced": "not-enforced",
        "check above of child is not enforced": "not-enforced",
        "not null known of meal is not validated for rows that are older than it": "not-validated",
    }
    postgresql.execute("insert into parent values (41); update child set n = 1; update meal set n = 1")
    for finding in findings.values():
        postgresql.execute(finding.hint)
    assert list(postgresql.reader().checks.schema_findings()) == []
    assert [reference.table for reference in postgresql.reader().references("parent")] == ["child"]
    postgresql.execute("delete from parent")
    assert postgresql.rows("select count(*) from child") == [(0,)]


def test_descending_and_shared_sequences_are_checked(postgresql):
    postgresql.execute(
        """create sequence down increment -1; create sequence shared;
        create table t (a integer default nextval('down'), b integer default nextval('shared'), c uuid);
        insert into t (a, b) values (-5, 7)"""
    )
    messages = [finding.message for finding in postgresql.reader().checks.schema_findings()]
    assert len(messages) == 2
    assert "sequence down returns -1 next, but t.a has reached -5" in messages[0]
    for finding in postgresql.reader().checks.schema_findings():
        postgresql.execute(finding.hint)
    postgresql.execute("insert into t default values")
    assert postgresql.rows("select a, b from t order by b desc limit 1") == [(-6, 8)]
    assert list(postgresql.reader().checks.schema_findings()) == []


def test_maintenance_tasks_run(private_database):
    postgresql = private_database
    postgresql.execute(
        """create table "Us er" (id integer primary key, a text unique);
        create table other (id integer, during int4range, exclude using gist (during with &&));
        insert into "Us er" select n, n::text from generate_series(1, 200) n;
        create view v as select 1 as one"""
    )
    writer = postgresql.writer()
    schema = f'"{postgresql.schema}"'
    statements = {
        kind: [item.statement for item in writer.storage.maintenance_tasks(kind, [])]
        for kind in ("vacuum", "analyze", "reindex")
    }
    assert statements["vacuum"] == [
        f'VACUUM (ANALYZE) {schema}."Us er"',
        f'VACUUM (ANALYZE) {schema}."other"',
    ]
    assert statements["analyze"] == [f'ANALYZE {schema}."Us er"', f'ANALYZE {schema}."other"']
    assert [item.replace(schema, "S") for item in statements["reindex"]] == [
        'REINDEX INDEX CONCURRENTLY S."Us er_a_key"',
        'REINDEX INDEX CONCURRENTLY S."Us er_pkey"',
        'REINDEX INDEX S."other_during_excl"',
    ]
    assert [item.table for item in writer.storage.maintenance_tasks("optimize", [])] == ["Us er", "other"]
    with pytest.raises(SchemaMismatchError):
        writer.storage.maintenance_tasks("vacuum", ["gone"])
    with pytest.raises(NotSupportedError):
        writer.storage.maintenance_tasks("checkpoint", ["other"])
    for kind in ("vacuum", "reindex", "checkpoint"):
        for item in writer.storage.maintenance_tasks(kind, []):
            writer.storage.maintain(item)
    assert writer.count("Us er") == 200
    assert list(writer.storage.maintenance_tasks("optimize", [])) == []
    with writer.transaction():  # the maintenance has restored the settings of the session
        writer.delete("other", [])
    with pytest.raises(RuntimeError):
        postgresql.reader().storage.maintain(writer.storage.maintenance_tasks("analyze", ["other"])[0])


def test_failed_reindex_reports_its_leftover(private_database):
    postgresql = private_database
    postgresql.execute("create table t (id integer); create index i on t (id)")
    writer = postgresql.writer()
    with closing(servers.connection(postgresql.url)) as holder, holder.transaction():
        holder.execute("insert into t values (1)")
        with pytest.raises(BusyError):
            writer.storage.maintain(writer.storage.maintenance_tasks("reindex", [])[0])
        (leftover,) = writer.storage.find_leftovers()
    assert leftover.hint == f'DROP INDEX CONCURRENTLY "{postgresql.schema}"."i_ccnew";'
    assert [
        item.statement.rpartition(".")[2] for item in writer.storage.maintenance_tasks("reindex", [])
    ] == ['"i"']
    assert [item.code for item in writer.checks.schema_findings()] == ["index-leftover"]
    assert list(writer.checks.find_damage()) == []
    postgresql.execute(leftover.hint)
    assert list(writer.storage.find_leftovers()) == []


def test_reindex_blocked_by_older_transaction_leaves_nothing(private_database):
    private_database.execute(
        "create table t (id integer); create table other (id integer); create index i on t (id)"
    )
    writer = private_database.writer()
    with closing(servers.connection(private_database.url)) as holder, holder.transaction():
        holder.execute("set transaction isolation level repeatable read; select * from other")
        with pytest.raises(BusyError, match=rf"pid {holder.info.backend_pid}, .*whose transaction is older"):
            writer.storage.maintain(writer.storage.maintenance_tasks("reindex", [])[0])
        assert list(writer.storage.find_leftovers()) == []
    writer.storage.maintain(writer.storage.maintenance_tasks("reindex", [])[0])


def test_skipped_maintenance_fails_although_the_server_sends_no_warnings(postgresql):
    postgresql.execute("create table t (id integer)")
    with create_role(postgresql, f"grant select on {postgresql.schema}.t") as name:
        postgresql.execute(f"alter role {name} set client_min_messages = error")
        (task,) = postgresql.reader().storage.maintenance_tasks("vacuum", [])
        with pytest.raises(QueryFailedError):
            postgresql.writer(user=name, password=None).storage.maintain(task)


def test_maintenance_requires_table_ownership(postgresql):
    postgresql.execute("create table t (id integer)")
    with create_role(postgresql, f"grant select, insert, update, delete on {postgresql.schema}.t") as name:
        writer = postgresql.writer(user=name, password=None)
        for kind in ("vacuum", "analyze", "reindex"):
            with pytest.raises(PrivilegeMissingError, match="only the owner of t"):
                writer.storage.maintenance_tasks(kind, [])
        (task,) = postgresql.reader().storage.maintenance_tasks("vacuum", [])
        with pytest.raises(QueryFailedError):  # the server only warns
            writer.storage.maintain(task)
        if postgresql.connection.info.server_version >= 170000:
            postgresql.execute(f"grant maintain on {postgresql.schema}.t to {name}")
            for kind in ("vacuum", "analyze", "reindex"):
                for task in writer.storage.maintenance_tasks(kind, []):
                    writer.storage.maintain(task)


def test_slow_queries_have_an_enabling_hint(postgresql):
    if postgresql.rows("select from pg_extension where extname = 'pg_stat_statements'"):
        pytest.skip("this server records slow queries")
    with pytest.raises(NotSupportedError) as caught:
        postgresql.reader().server.list_slow_queries()
    assert "CREATE EXTENSION pg_stat_statements;" in caught.value.hint
    assert "log_min_duration_statement" in caught.value.hint


def test_hint_for_slow_queries_lists_the_steps_that_remain(private_database):
    if private_database.rows("select from pg_settings where name = 'pg_stat_statements.max'"):
        pytest.skip("this server records slow queries")
    private_database.execute("create extension pg_stat_statements")
    with pytest.raises(NotSupportedError) as caught:
        private_database.reader().server.list_slow_queries()
    assert "; restart the server; without it, ALTER DATABASE" in caught.value.hint
    assert "CREATE EXTENSION" not in caught.value.hint


def test_server_counters_are_reported(postgresql):
    traffic = postgresql.reader().server.read_traffic()
    assert traffic.version[:2].isdigit()
    assert 0 < traffic.connections <= traffic.max_connections
    assert 0 < traffic.cache_hit_ratio <= 1
    assert structs.asdict(traffic)["commits"] > 0


def test_foreign_table_whose_server_does_not_answer(postgresql, answer):
    """Its rows are not those of the database."""
    wrapper = f"{postgresql.schema}_far"
    postgresql.execute("create table near (id integer primary key)")
    postgresql.execute("insert into near values (1), (2)")
    postgresql.execute(f"create foreign data wrapper {wrapper}")
    postgresql.execute(f"create server {wrapper} foreign data wrapper {wrapper}")
    postgresql.execute(f"create foreign table far (id integer) server {wrapper}")
    try:
        with pytest.raises(QueryFailedError):
            postgresql.reader().count("far")
        app = ("--url", f"main={servers.text(postgresql.url)}")
        tables = answer(*app, "schema", "show")["data"]["items"]
        assert [(table["table"], table["rows"]) for table in tables] == [("far", None), ("near", 2)]
        (far,) = answer(*app, "schema", "show", "far")["data"]["tables"]
        assert (far["rows"], [column["name"] for column in far["columns"]]) == (None, ["id"])
        assert [table["table"] for table in answer(*app, "stats", "tables")["data"]["items"]] == ["near"]
        assert answer(*app, "integrity", "check")["data"]["findings"] == []
        postgresql.execute("create type mood as enum ('calm')")
        postgresql.execute("create table mixed (id integer, m mood) partition by list (id)")
        postgresql.execute("create table mixed_near partition of mixed for values in (1)")
        postgresql.execute(
            f"create foreign table mixed_far partition of mixed for values in (2) server {wrapper}"
        )
        postgresql.execute("insert into mixed_near values (1, 'calm')")
        assert answer(*app, "integrity", "check")["data"]["findings"] == []
        postgresql.execute("delete from pg_enum where enumtypid = 'mood'::regtype")
        (finding,) = answer(*app, "integrity", "check", status=4)["data"]["findings"]
        assert finding["message"].startswith("mixed: ")
    finally:
        postgresql.execute(f"drop foreign data wrapper {wrapper} cascade")


@pytest.mark.needs_extension("copies")
def test_server_of_foreign_table_that_does_not_answer_is_no_lost_connection(answer):
    with servers.postgresql_database(encoding="UTF8") as url:
        with closing(servers.connection(url)) as connection:
            connection.execute("create extension postgres_fdw")
            connection.execute(
                "create server far foreign data wrapper postgres_fdw options (host '127.0.0.1', port '1')"
            )
            connection.execute("create user mapping for public server far options (password 'x', user 'x')")
            connection.execute("create foreign table a (id integer, note text) server far")
            connection.execute("create table b (id integer primary key, note text)")
            connection.execute("insert into b values (1, 'old')")
        app = ("--url", f"main={servers.text(url)}")
        refused = answer(*app, "data", "rows", "a", status=1)["error"]
        assert (refused["code"], "far" in refused["message"]) == ("query-failed", True)
        assert (
            answer(*app, "data", "replace", "old", "new", "--yes", status=1)["error"]["code"]
            == "query-failed"
        )
        answer(*app, "data", "replace", "old", "new", "--skip", "a", "--yes")
        assert answer(*app, "data", "rows", "b")["data"]["items"] == [{"id": 1, "note": "new"}]
