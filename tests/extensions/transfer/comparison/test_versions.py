"""The comparison of versions of rows with a snapshot finds exactly the rows that the comparison of all rows finds."""

from __future__ import annotations

import random
from contextlib import ExitStack, closing

import pytest
from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract.dumps import DumpRequest
from dbctl.errors.connection import QueryFailedError
from dbctl.extensions.transfer.comparison.differing_rows import read_changes
from dbctl.extensions.transfer.engines.postgresql import versions
from dbctl.extensions.transfer.portable.contract import ChangedRows, LineColumn
from tests import servers
from tests.crash.figures import choose_count

pytestmark = pytest.mark.needs_extension("drafts")  # which exports the snapshots

TABLES = """create table parents (id integer primary key, name text not null, body text);
create index by_name on parents (name);
create table children (id serial primary key, parent_id integer not null references parents, body text);
create table words (word text primary key, count integer) with (fillfactor = 50);
create table pairs (a integer, b text, primary key (a, b));
create table codes (code text not null unique, count integer);
create table log (at text, line text);
create table events (day integer not null, id integer not null, body text, primary key (day, id)) partition by range (day);
create table events_1 partition of events for values from (0) to (100);
create table events_2 partition of events for values from (100) to (200);
create table animals (id integer, name text);
create table cats (lives integer) inherits (animals);
insert into parents select n, 'name ' || n, repeat(md5(n::text), n % 300) from generate_series(1, 300) n;
insert into children (parent_id, body) select n % 300 + 1, 'child ' || n from generate_series(1, 200) n;
insert into words select 'word ' || n, n from generate_series(1, 300) n;
insert into pairs select n, 'b' || n % 3 from generate_series(1, 200) n;
insert into codes select 'code ' || n, n from generate_series(1, 200) n;
insert into log select 'then', 'line ' || n % 50 from generate_series(1, 200) n;
insert into events select n, n, 'event ' || n from generate_series(1, 199) n;
insert into animals select n, 'animal ' || n from generate_series(1, 50) n;
insert into cats select n, 'cat ' || n, 9 from generate_series(30, 80) n"""
#: One transaction each, which is committed unless it ends with a rollback.
CHANGES = (
    "update words set count = count + 1 where word = 'word {n}'",
    "update words set count = count where count between {n} and {n} + 20",
    "update words set word = word || 'a' where word = 'word {n}'",
    "update parents set name = 'changed' where id = {n}",
    "update parents set body = repeat(md5('{n}'), 20000) where id = {n}",
    "insert into children (parent_id, body) values ({n}, 'new')",
    "insert into children (parent_id, body) values ({n}, 'new'); rollback",
    "update parents set body = 'failed'; rollback",
    "delete from children where id between {n} and {n} + 10; rollback",
    "delete from children where parent_id = {n}; delete from parents where id = {n}",
    "delete from pairs where a = {n}; insert into pairs values ({n}, 'b{n}')",
    "delete from words where word = 'word {n}'; insert into words values ('word {n}', {n})",
    "delete from words where word = 'word {n}'; insert into words values ('word {n}', 0)",
    "select from parents where id between {n} and {n} + 50 for update",
    "select from log for key share; update log set line = 'locked' where line = 'line 7'",
    "select from log for share; savepoint a; delete from log where line = 'line 8'; release a",
    "select from log for key share; savepoint a; update log set at = 'now' where line = 'line 9'; rollback to a",
    "select from codes for update; savepoint a; update codes set count = 0 where code = 'code {n}'; savepoint b; delete from codes where count = 3; rollback to b",
    "savepoint a; insert into children (parent_id, body) values ({n}, 'nested'); release a",
    "insert into log select at, line from log limit 3",
    "delete from log where ctid in (select ctid from log where line = 'line 1' limit 1)",
    "update events set day = day + 100 where id = {n} and day < 100",
    "update events set body = 'moved' where id between {n} and {n} + 3",
    "delete from events where id = {n}; insert into events values (150, {n} + 1000, 'new')",
    "update animals set name = 'renamed' where id = {n} % 80",
    "delete from only animals where id = {n} % 50; insert into cats values ({n}, 'new', 1)",
    "delete from codes",
)
VACUUMS = ("vacuum", "vacuum freeze", "analyze")


@pytest.fixture
def database():
    with servers.postgresql_database(encoding="UTF8") as url, closing(servers.connection(url)) as db:
        db.execute(TABLES)
        yield url


@pytest.fixture
def export(database):
    """Export a snapshot of the current state, and return it."""
    from dbctl.extensions.drafts.learning.snapshots import SnapshotExport

    engine = registry.load_engine("postgresql")
    with ExitStack() as stack:

        def run():
            reader = stack.enter_context(closing(engine.open_for_reading(database, "t", timeout=5)))
            return stack.enter_context(reader.extension_part(SnapshotExport).export_snapshot())

        yield run


@pytest.fixture
def open_states(database):
    """Return the state of a snapshot and the current one, open for reading."""
    engine = registry.load_engine("postgresql")
    with ExitStack() as stack:

        def run(snapshot, options=""):
            urls = snapshot.url, structs.replace(database, options=options)
            return [
                stack.enter_context(closing(engine.open_for_reading(url, "t", timeout=5))) for url in urls
            ]

        yield run


def list_changes(databases):
    """Return the changes; the order of rows depends on the number of rows that are compared."""
    return [
        structs.replace(change, images=sorted(change.images, key=repr))
        for change in read_changes(*databases, "main", limit=10_000)
    ]


def run_transaction(db, statements):
    db.execute("begin")
    db.execute(statements)
    if not statements.endswith("rollback"):
        db.execute("commit")


def assert_same_changes(open_states, snapshot):
    """Assert that all rows show the same changes; return them."""
    changes = list_changes(open_states(snapshot))
    # another address is no later state of the same database, whose versions could be compared
    databases = open_states(snapshot, "application_name=other")
    assert (
        databases[0].extension_part(ChangedRows).select_changed(databases[1], ["log"], private=False) is None
    )
    assert changes == list_changes(databases)
    return changes


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(choose_count(8, 20)))
def test_versions_show_the_rows_that_differ(database, export, open_states, seed):
    source = random.Random(seed)  # noqa: S311 - repeatable

    def select(count):
        return [text.format(n=source.randint(1, 190)) for text in source.sample(CHANGES, count)]

    with ExitStack() as stack:
        app, running, later = (stack.enter_context(closing(servers.connection(database))) for _ in range(3))
        for statements in select(source.randint(0, 6)):
            run_transaction(app, statements)
        app.execute(source.choice(VACUUMS))
        # they end after the snapshot, and after the comparison; neither changes rows that the others lock
        running.execute(
            "begin; select from words for key share; savepoint a; insert into log values ('running', 'a')"
        )
        running.execute("update words set count = -1 where word = 'word 200'; release a")
        later.execute(
            "begin; update pairs set b = 'later' where a = 195; delete from parents where id = 299 and false"
        )
        snapshot = export()
        running.execute(
            "savepoint b; insert into log values ('running', 'b'); delete from log where line = 'line 4'"
        )
        running.execute(source.choice(["commit", "rollback"]))
        for statements in select(source.randint(0, 8)):
            run_transaction(app, statements)
            if not source.randrange(4):
                app.execute(source.choice(VACUUMS))
        assert snapshot.is_complete()
        assert_same_changes(open_states, snapshot)


def test_unchanged_rows_are_not_read(database, export, open_states):
    snapshot = export()
    with closing(servers.connection(database)) as db:
        run_transaction(db, "insert into children (parent_id, body) values (7, 'new')")
        run_transaction(db, "update words set count = 0 where word = 'word 5'")
        run_transaction(db, "update events set day = 150 where id = 3")
    first, second = open_states(snapshot)
    tables = ["parents", "children", "words", "events", "log"]
    sources = first.connection.read_transaction(), second.connection.read_transaction()
    with sources[0], sources[1]:
        changed = first.extension_part(ChangedRows).select_changed(second, tables, private=False)
        rows = {table: [read_column(source, table) for source in changed] for table in tables}
    assert rows == {
        "parents": [[], []],
        "children": [[], ["new"]],
        "words": [["5"], ["0"]],
        "events": [["event 3"], ["event 3"]],
        "log": [[], []],
    }


def read_column(source, table):
    column = LineColumn(name={"words": "count", "log": "line"}.get(table, "body"), kind="native")
    with source.stream_lines(table, [column]) as batches:
        return [line.decode() for batch in batches for line in batch.lines]


@pytest.mark.slow
def test_many_changed_rows_are_compared_with_all(database, export, open_states, monkeypatch):
    monkeypatch.setattr(versions, "MAX_CANDIDATES", 100)
    snapshot = export()
    with closing(servers.connection(database)) as db:
        run_transaction(
            db,
            "update parents set name = 'changed' where id <= 101; update words set count = 0 where count <= 100",
        )
    changes = assert_same_changes(open_states, snapshot)
    assert {change.table: change.rows for change in changes} == {"parents": 101, "words": 100}


@pytest.mark.parametrize(
    "statement",
    [
        "truncate log",
        "alter table log add extra integer",
        "alter table log rename column line to text",
        "alter table log rename to journal",
        "alter table words alter count type bigint",
        "create table new (id integer)",
        "drop table log",
        "alter table events detach partition events_1",
        "vacuum full log",
        "cluster words using words_pkey",
    ],
)
def test_replaced_table_makes_a_snapshot_incomplete(database, export, statement):
    snapshot = export()
    with closing(servers.connection(database)) as db:
        db.execute("create temporary table own (id integer)")
        db.execute("create index on log (line)")
        db.execute("vacuum freeze")
        assert snapshot.is_complete()
        db.execute(statement)
        assert not snapshot.is_complete()


def test_snapshot_has_no_locks_and_no_time_limit(database, export):
    with closing(servers.connection(database)) as db:
        db.execute(f"alter database {database.path} set idle_in_transaction_session_timeout = '200ms'")
        snapshot = export()
        db.execute("select pg_sleep(0.6)")
        locks = db.execute(
            "select relation::regclass::text from pg_locks where relation is not null and pid <> pg_backend_pid()"
            " and database = (select oid from pg_database where datname = current_database())"
        ).fetchall()
        assert locks == []
        assert snapshot.is_complete()


def test_lost_session_makes_a_snapshot_incomplete(database, export):
    snapshot = export()
    with closing(servers.connection(database)) as db:
        terminated = db.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        ).fetchall()
    assert terminated
    assert not snapshot.is_complete()


def test_reader_and_dump_of_a_snapshot_have_its_state(database, export, tmp_path):
    engine = registry.load_engine("postgresql")
    snapshot = export()
    with closing(servers.connection(database)) as db:
        db.execute("delete from log")
    with closing(engine.open_for_reading(snapshot.url, "t", timeout=5)) as db:
        assert db.count("log") == 200
        with pytest.raises(QueryFailedError):
            db.query("select 1 / 0")
        assert db.count("log") == 200
        dump = db.dumps.dump(DumpRequest(tmp_path / "dump"))
    assert dump.verification.tables["log"] == 200
