"""What PostgreSQL tells of itself: sessions and who waits for whom, indexes, room, settings, rules that are not kept."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager

import psycopg
import pytest
from msgspec import structs

from dbctl.engines.postgresql.monitoring.advice import encryption
from dbctl.errors import (
    BusyError,
    NotSupportedError,
    PrivilegeMissingError,
    QueryFailedError,
    SchemaLacksError,
)
from tests import servers
from tests.engines.conftest import Made


@contextmanager
def role(postgresql, *grants):
    """A role that may sign in, and what it is granted."""
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
def alone():
    """A database that nobody else uses: what works beside others waits for all that began before it."""
    with servers.postgresql_database(encoding="UTF8") as url:
        made = Made(url)
        with closing(made.own):
            yield made
            for opened in made.opened:
                opened.close()


@contextmanager
def waiting(postgresql, sql):
    """Another session that runs a statement and has to wait in it."""
    with closing(servers.connection(postgresql.url)) as own:
        pid = own.info.backend_pid

        def run():
            try:
                own.execute(sql)
            except psycopg.Error as error:
                ended.append(error)

        ended = []
        thread = threading.Thread(target=run)
        thread.start()
        try:
            while not postgresql.rows(
                f"select from pg_stat_activity where pid = {pid} and wait_event_type = 'Lock'"
            ):
                time.sleep(0.02)
            yield pid, ended
        finally:
            postgresql.execute(f"select pg_cancel_backend({pid})")
            thread.join()


def test_who_waits_for_whom_is_told_with_both_statements(postgresql):
    postgresql.execute("create table t (id integer primary key, a text); insert into t values (1, 'x')")
    reader = postgresql.reader()
    assert list(reader.waits()) == []
    with closing(servers.connection(postgresql.url)) as holder, holder.transaction():
        holder.execute("update t set a = 'secret' where id = 1")
        with waiting(postgresql, "update t set a = 'other' where id = 1") as (pid, _):
            (found,) = reader.waits()
            other = holder.info.backend_pid
            mine = {one.pid: one for one in reader.sessions()}
    assert (found.blocked.pid, found.blocking.pid) == (pid, other)
    assert found.blocked.query == found.blocking.query == "update t set a = ? where id = ?"
    assert found.blocking.state == "idle in transaction"
    assert found.seconds is not None
    assert 0 <= found.seconds < 60
    assert "transactionid" in found.lock
    assert mine[pid].wait.startswith("Lock")
    assert mine[pid].query_seconds >= 0
    assert mine[other].query_seconds is None
    assert mine[other].transaction_seconds >= 0
    assert {one.may_end for one in mine.values()} == {True}


def test_a_session_is_asked_to_end_what_it_does_or_itself(postgresql):
    postgresql.execute("create table t (id integer)")
    reader = postgresql.reader()
    for terminate in (False, True):
        with closing(servers.connection(postgresql.url)) as holder, holder.transaction():
            holder.execute("lock table t in access exclusive mode")
            with waiting(postgresql, "select * from t") as (pid, ended):
                assert reader.cancel(pid, terminate=terminate)
                while not ended:
                    time.sleep(0.02)
            kind = psycopg.errors.AdminShutdown if terminate else psycopg.errors.QueryCanceled
            assert isinstance(ended[0], kind)
    assert not reader.cancel(2**30, terminate=False)


def test_a_role_without_rights_sees_less_and_ends_nothing_and_is_told_so(postgresql):
    with role(postgresql) as name:
        reader = postgresql.reader(user=name, password=None)
        assert reader.hidden().endswith(f'GRANT pg_read_all_stats TO "{name}";')
        own = postgresql.own.info.backend_pid
        (found,) = [one for one in reader.sessions() if one.pid == own]
        assert (found.may_end, found.query_seconds) == (False, None)
        with pytest.raises(PrivilegeMissingError):
            reader.cancel(own, terminate=False)
    assert postgresql.reader().hidden() == ""


def test_indexes_are_told_with_what_tells_them_apart(postgresql):
    postgresql.execute(
        """create table "Us er" (id integer primary key, email text unique, a integer, b integer);
        alter table "Us er" add constraint users_email_key1 unique (email);
        create index on "Us er" (a desc, b) include (email);
        create index on "Us er" (lower(email) text_pattern_ops) where a > 3;
        create index on "Us er" (a nulls first, email collate "C");
        create table child (u integer references "Us er")"""
    )
    told = {one.name: one for one in postgresql.reader().indexes()}
    assert [one.table for one in told.values()] == ["Us er"] * 6
    assert told["Us er_pkey"].primary
    assert told["Us er_pkey"].needed
    assert {one.constraint for one in told.values() if one.unique} == {True}
    assert told["users_email_key1"].columns == told["Us er_email_key"].columns == ["email"]
    assert told["users_email_key1"].drop.endswith('"Us er" DROP CONSTRAINT "users_email_key1";')
    others = {(*one.columns, one.where) for one in told.values() if not one.unique}
    assert others == {
        ("a desc", "b", "email include", ""),
        ("lower(email) text_pattern_ops", "a > 3"),
        ("a nulls first", 'email collate "C"', ""),
    }
    assert all(one.bytes > 0 and one.scans == 0 and one.valid for one in told.values())
    for one in told.values():
        if not one.needed:
            postgresql.execute(one.drop)


def test_the_rows_of_a_large_table_are_estimated_and_counted_on_demand(postgresql):
    postgresql.execute("create table small (id integer); insert into small values (1), (2)")
    postgresql.execute("create table large (id integer, a text)")
    postgresql.execute(
        "insert into large select n, repeat('x', 1000) from generate_series(1, 20000) n; analyze large"
    )
    postgresql.execute("delete from large where id <= 100")
    reader = postgresql.reader()
    about = {one.table: one for one in reader.measured(exact=False)}
    exact = {one.table: one for one in reader.measured()}
    assert (about["small"].rows, about["small"].estimated) == (2, False)
    assert about["large"].estimated
    assert about["large"].rows == pytest.approx(20000, rel=0.05)
    assert (exact["large"].rows, exact["large"].estimated) == (19900, False)
    assert exact["large"].bytes >= exact["large"].table_bytes > 20_000_000
    while exact["large"].analyzed_at is None:  # before 15 the server notes a moment later what it has done
        exact = {one.table: one for one in reader.measured()}


def test_wasted_room_is_estimated_and_measured_where_pgstattuple_is_installed(alone):
    postgresql = alone
    postgresql.execute("create table t (id integer, a text)")
    postgresql.execute("create table unknown (id integer)")
    postgresql.execute("insert into t select n, repeat('x', 200) from generate_series(1, 5000) n")
    postgresql.execute("delete from t where id > 1000")
    postgresql.execute("vacuum (analyze, truncate off) t")
    told = {one.table: one for one in postgresql.reader().wasted()}
    assert (told["unknown"].wasted_bytes, told["unknown"].source[:4]) == (None, "none")
    assert told["t"].estimated
    assert told["t"].wasted_bytes == pytest.approx(told["t"].bytes * 0.8, rel=0.1)
    assert told["t"].vacuumed_at is not None or told["t"].source == "statistics"
    if not postgresql.rows("select from pg_available_extensions where name = 'pgstattuple'"):
        return
    postgresql.execute("create extension if not exists pgstattuple")
    measured = {one.table: one for one in postgresql.reader().wasted()}["t"]
    assert measured.source == "pgstattuple"
    assert measured.rows == 1000
    assert measured.wasted_bytes == pytest.approx(told["t"].wasted_bytes, rel=0.1)


def test_settings_are_compared_by_what_they_mean(postgresql):
    reader = postgresql.reader()
    ((most,),) = postgresql.rows("select setting::int from pg_settings where name = 'max_connections'")
    wanted = {
        "work_mem": "64kB",
        "maintenance_work_mem": "100TB",
        "temp_buffers": "1",
        "max_connections": str(most),
        "random_page_cost": "4.00",
        "seq_page_cost": "1.5",
        "autovacuum_naptime": "24h",
        "password_encryption": "SCRAM-SHA-256",
        "no_such_setting": "1",
        "track_counts": "yes",
    }
    told = {one.name: one for one in reader.tuned(wanted)}
    assert {name for name, one in told.items() if one.fits} == {
        "work_mem",
        "temp_buffers",
        "max_connections",
        "random_page_cost",
        "password_encryption",
        "track_counts",
    }
    assert told["max_connections"].restart
    assert not told["work_mem"].restart
    assert told["no_such_setting"].actual is None
    assert told["maintenance_work_mem"].change == "ALTER SYSTEM SET maintenance_work_mem = '100TB';"


def test_a_missing_right_is_told_with_the_grant_that_gives_it(postgresql):
    postgresql.execute("create table a (id serial primary key)")
    postgresql.execute('create table "B b" (id integer)')
    postgresql.execute("create view v as select 1 as one")
    with role(postgresql, f"grant select on {postgresql.schema}.a") as name:
        reader = postgresql.reader(user=name, password=None)

        def lacking(*, writing):
            found = reader.concerns(writing=writing)
            return [one.hint for one in found if one.code == "privilege-missing"]

        at = f'"{postgresql.schema}"'
        assert lacking(writing=False) == [f'GRANT SELECT ON TABLE {at}."B b" TO "{name}";']
        for hint in lacking(writing=True):
            postgresql.execute(hint)
        assert lacking(writing=True) == lacking(writing=False) == []
        postgresql.execute(f"revoke all on all tables in schema {postgresql.schema} from {name}")
        assert lacking(writing=False) == [f'GRANT SELECT ON ALL TABLES IN SCHEMA {at} TO "{name}";']


@pytest.mark.parametrize(
    ("asked", "encrypted", "told"),
    [
        ("", False, ("error", "not-encrypted")),
        ("disable", False, ("error", "not-encrypted")),
        ("", True, ("warning", "server-not-proven")),
        ("require", True, ("info", "server-not-proven")),
        ("verify-full", True, None),
    ],
)
def test_a_connection_to_another_machine_wants_to_be_encrypted_and_proven(asked, encrypted, told):
    found = [(one.severity, one.code) for one in encryption(asked, encrypted=encrypted)]
    assert found == ([told] if told else [])


def test_a_schema_that_a_role_may_not_use_is_not_called_empty(postgresql):
    postgresql.execute("create table t (id integer)")
    with role(postgresql) as name:
        postgresql.execute(f"revoke usage on schema {postgresql.schema} from {name}")
        with pytest.raises(PrivilegeMissingError) as caught:
            postgresql.reader(user=name, password=None).tables()
        assert caught.value.hint.endswith(f'GRANT USAGE ON SCHEMA "{postgresql.schema}" TO "{name}";')


def test_a_sequence_that_a_dump_cannot_read_is_granted_for_reading(postgresql):
    postgresql.execute("create sequence s")
    with role(postgresql) as name:
        postgresql.execute(f"revoke all on sequence s from {name}")
        with pytest.raises(PrivilegeMissingError) as caught:
            postgresql.reader(user=name, password=None).query("select last_value from s")
        assert "GRANT USAGE, SELECT ON SEQUENCE" in caught.value.hint


def test_what_an_admin_should_know_is_told_with_the_statement_that_helps(postgresql):
    postgresql.execute("create unlogged table u (id integer)")
    postgresql.execute("create table t (id integer)")
    postgresql.execute("create index i on t (id); create index left_ccnew on t (id)")
    postgresql.execute(
        "update pg_index set indisvalid = false where indexrelid in ('i'::regclass, 'left_ccnew'::regclass)"
    )
    found = {(one.code, one.hint): one.severity for one in postgresql.reader().concerns(writing=True)}
    at = postgresql.schema
    assert found["unlogged", f"ALTER TABLE {at}.u SET LOGGED;"] == "warning"
    assert ("index-invalid", f"REINDEX INDEX CONCURRENTLY {at}.i;") in found
    assert ("index-invalid", f"DROP INDEX CONCURRENTLY {at}.left_ccnew;") in found
    for code, hint in found:
        if code in ("unlogged", "index-invalid"):
            postgresql.execute(hint)
    codes = {one.code for one in postgresql.reader().concerns(writing=True)}
    assert not codes & {"unlogged", "index-invalid"}


def test_rules_that_are_not_kept_are_told_with_what_mends_them(postgresql):
    postgresql.execute(
        """create table "Pa rent" ("Id" serial primary key, up integer);
        create table child (id integer generated always as identity primary key, p integer, n integer);
        insert into "Pa rent" ("Id") values (41), (42);
        insert into child (p, n) values (41, -1);
        alter table child add constraint later foreign key (p) references "Pa rent" not valid;
        alter table child add constraint above check (n > 0) not valid"""
    )
    reader = postgresql.reader()
    found = {one.code: one for one in reader.flaws()}
    behind = found["sequence-behind"]
    assert (behind.severity, "42 already" in behind.message) == ("error", True)
    assert [one.code for one in reader.flaws("child")] == ["not-validated", "not-validated"]
    postgresql.execute(behind.hint)
    postgresql.execute('insert into "Pa rent" default values')
    assert [one.code for one in reader.flaws()] == ["not-validated", "not-validated"]
    hints = {one.message.split()[-0]: one.hint for one in reader.flaws()}
    assert len(hints) == 2
    postgresql.execute("update child set n = 1")
    for hint in hints.values():
        postgresql.execute(hint)
    assert list(reader.flaws()) == []


def test_a_sequence_that_counts_down_or_is_not_the_columns_own_is_understood(postgresql):
    postgresql.execute(
        """create sequence down increment -1; create sequence shared;
        create table t (a integer default nextval('down'), b integer default nextval('shared'), c uuid);
        insert into t (a, b) values (-5, 7)"""
    )
    found = [one.message for one in postgresql.reader().flaws()]
    assert len(found) == 2
    assert "sequence down gives -1 next, and t.a is at -5 already" in found[0]
    for one in postgresql.reader().flaws():
        postgresql.execute(one.hint)
    postgresql.execute("insert into t default values")
    assert postgresql.rows("select a, b from t order by b desc limit 1") == [(-6, 8)]
    assert list(postgresql.reader().flaws()) == []


def test_looking_after_tables_does_what_it_says(alone):
    postgresql = alone
    postgresql.execute(
        """create table "Us er" (id integer primary key, a text unique);
        create table other (id integer, during int4range, exclude using gist (during with &&));
        insert into "Us er" select n, n::text from generate_series(1, 200) n;
        create view v as select 1 as one"""
    )
    writer = postgresql.writer()
    at = f'"{postgresql.schema}"'
    told = {
        kind: [one.statement for one in writer.tasks(kind, [])] for kind in ("vacuum", "analyze", "reindex")
    }
    assert told["vacuum"] == [f'VACUUM (ANALYZE) {at}."Us er"', f'VACUUM (ANALYZE) {at}."other"']
    assert told["analyze"] == [f'ANALYZE {at}."Us er"', f'ANALYZE {at}."other"']
    assert [one.replace(at, "S") for one in told["reindex"]] == [
        'REINDEX INDEX CONCURRENTLY S."Us er_a_key"',
        'REINDEX INDEX CONCURRENTLY S."Us er_pkey"',
        'REINDEX INDEX S."other_during_excl"',
    ]
    assert [one.table for one in writer.tasks("optimize", [])] == ["Us er", "other"]
    with pytest.raises(SchemaLacksError):
        writer.tasks("vacuum", ["gone"])
    with pytest.raises(NotSupportedError):
        writer.tasks("checkpoint", ["other"])
    for kind in ("vacuum", "reindex", "checkpoint"):
        for one in writer.tasks(kind, []):
            writer.maintain(one)
    assert writer.count("Us er") == 200
    assert list(writer.tasks("optimize", [])) == []
    with writer.transaction():  # its settings are what they were
        writer.delete("other", [])
    with pytest.raises(RuntimeError):
        postgresql.reader().maintain(writer.tasks("analyze", ["other"])[0])


def test_an_index_that_is_made_anew_in_vain_leaves_what_is_named(alone):
    postgresql = alone
    postgresql.execute("create table t (id integer); create index i on t (id)")
    writer = postgresql.writer()
    with closing(servers.connection(postgresql.url)) as holder, holder.transaction():
        holder.execute("insert into t values (1)")
        with pytest.raises(BusyError):
            writer.maintain(writer.tasks("reindex", [])[0])
        (left,) = writer.leftovers()
    assert left.hint == f'DROP INDEX CONCURRENTLY "{postgresql.schema}"."i_ccnew";'
    assert [one.statement.rpartition(".")[2] for one in writer.tasks("reindex", [])] == ['"i"']
    assert [one.code for one in writer.flaws()] == ["index-left"]
    assert list(writer.damage()) == []
    postgresql.execute(left.hint)
    assert list(writer.leftovers()) == []


def test_an_index_that_an_older_transaction_keeps_from_being_made_anew_leaves_nothing(alone):
    alone.execute("create table t (id integer); create table other (id integer); create index i on t (id)")
    writer = alone.writer()
    with closing(servers.connection(alone.url)) as holder, holder.transaction():
        holder.execute("set transaction isolation level repeatable read; select * from other")
        with pytest.raises(BusyError, match=rf"pid {holder.info.backend_pid}, .*whose transaction is older"):
            writer.maintain(writer.tasks("reindex", [])[0])
        assert list(writer.leftovers()) == []
    writer.maintain(writer.tasks("reindex", [])[0])


def test_who_does_not_own_a_table_is_refused_before_anything_is_done(postgresql):
    postgresql.execute("create table t (id integer)")
    with role(postgresql, f"grant select, insert, update, delete on {postgresql.schema}.t") as name:
        writer = postgresql.writer(user=name, password=None)
        for kind in ("vacuum", "analyze", "reindex"):
            with pytest.raises(PrivilegeMissingError, match="only the owner of t"):
                writer.tasks(kind, [])
        (task,) = postgresql.reader().tasks("vacuum", [])
        with pytest.raises(QueryFailedError):  # the server itself would only warn
            writer.maintain(task)
        if postgresql.own.info.server_version >= 170000:
            postgresql.execute(f"grant maintain on {postgresql.schema}.t to {name}")
            for kind in ("vacuum", "analyze", "reindex"):
                for one in writer.tasks(kind, []):
                    writer.maintain(one)


def test_what_is_missing_for_slow_statements_is_told_line_by_line(postgresql):
    if postgresql.rows("select from pg_extension where extname = 'pg_stat_statements'"):
        pytest.skip("this server remembers them")
    with pytest.raises(NotSupportedError) as caught:
        postgresql.reader().slow()
    assert "CREATE EXTENSION pg_stat_statements;" in caught.value.hint
    assert "log_min_duration_statement" in caught.value.hint


def test_what_a_server_counts_is_told(postgresql):
    told = postgresql.reader().traffic()
    assert told.version[:2].isdigit()
    assert 0 < told.connections <= told.max_connections
    assert 0 < told.cache_hit_ratio <= 1
    assert structs.asdict(told)["commits"] > 0
