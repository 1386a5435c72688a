"""Migrations without a transaction: the journal records their progress, and the next run continues there."""

import os
from contextlib import closing

import pytest

from dbctl.engines import registry
from dbctl.errors.connection import BusyError
from dbctl.errors.migrations import (
    MigrationFailedError,
    MigrationInvalidError,
    MigrationPartialError,
    MigrationStatementUnknownError,
    MigrationStepMissingError,
    MigrationStepsChangedError,
)
from dbctl.services.migrations import drift, repair, verify
from dbctl.services.migrations.ledger import journal as migration_journal
from dbctl.services.migrations.ledger.journal import Journal, resolve_statement
from dbctl.services.migrations.status import find_targets
from dbctl.url import parse_url
from tests import servers
from tests.databases import empty_database
from tests.services.migrations import deployments

OUTSIDE = "-- dbctl: no-transaction\n"
FIVE = """create table one (id integer);
insert into one values (1);
{}
create table four (id integer);
insert into four values (4);
"""


@pytest.fixture(params=deployments.ENGINES)
def desk(request, tmp_path):
    with deployments.create_desk(request.param, tmp_path / "desk") as created:
        created.write({"001_first": "create table first_one (id integer);\n"})
        created.up()
        yield created


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_journal_that_another_run_dropped_is_empty(engine, tmp_path):
    with empty_database(engine, tmp_path) as database:
        database.run(migration_journal.CREATE)
        url = parse_url(database.url)
        with closing(registry.load_engine(engine).open_for_reading(url, "desk", timeout=5)) as reader:
            assert migration_journal.TABLE in reader.tables()
            database.run(f"drop table {migration_journal.TABLE}")
            assert migration_journal.read_partial_migrations(reader) == {}
        database.run(migration_journal.CREATE)
        with closing(registry.load_engine(engine).open_for_writing(url, "desk", timeout=5)) as writer:
            assert migration_journal.TABLE in writer.tables()
            database.run(f"drop table {migration_journal.TABLE}")
            migration_journal.drop_if_empty(writer)


def test_partial_migration_is_reported_and_continues_after_correction(desk):
    desk.write({"002_five": OUTSIDE + FIVE.format("insert into nosuch values (1);")})
    with pytest.raises(MigrationPartialError) as failed:
        desk.up()
    assert "002_five failed in statement 3 (line 4)" in str(failed.value)
    assert "statements 1–2 of 5 ran" in failed.value.hint
    assert desk.describe_states()["002_five"] == ("failed", "statements 1–2 of 5 are applied")
    with desk.open_app() as app:
        (finding,) = verify.verify(app, find_targets(app)).findings
        assert (finding.code, finding.severity) == ("failed", "error")
        assert "statements 1–2 of 5 are applied" in finding.message
        assert not [item for item in drift.drift(app, find_targets(app)).findings if "dbctl" in item.message]
    desk.write(
        {"002_five": OUTSIDE + FIVE.format("insert into one values (3);\ninsert into one values (4);")}
    )
    assert [(item.name, item.statements) for item in desk.up()] == [("002_five", 6)]
    assert desk.base.rows("select id from one order by id") == [(1,), (3,), (4,)] or desk.base.rows(
        "select id from one order by id"
    ) == ((1,), (3,), (4,))
    assert desk.states() == ["applied", "applied"]
    assert migration_journal.TABLE not in desk.tables()


def test_completed_statements_must_not_change(desk):
    desk.write({"002_five": OUTSIDE + FIVE.format("insert into nosuch values (1);")})
    with pytest.raises(MigrationPartialError):
        desk.up()
    desk.write({"002_five": OUTSIDE + FIVE.format("select 1;").replace("values (1)", "values (2)")})
    with pytest.raises(MigrationStepsChangedError, match="statement 2"):
        desk.up()
    assert desk.count("one") == 1


def test_failure_in_first_statement_stays_pending(desk):
    desk.write({"002_bad": OUTSIDE + "insert into nosuch values (1);\n"})
    with pytest.raises(MigrationFailedError):
        desk.up()
    assert desk.describe_states()["002_bad"] == ("pending", "")
    assert migration_journal.TABLE not in desk.tables()


@pytest.mark.parametrize("done", [True, False])
def test_statement_in_unknown_state_requires_a_repair(desk, done):
    """Simulate a kill between a statement and its row in the journal."""
    desk.write({"002_five": OUTSIDE + FIVE.format("insert into one values (3);")})
    statements = [sql for _, sql in find_dialect(desk).split(FIVE.format("insert into one values (3);"))]
    with desk.open_app() as app, app.writer("main") as db:
        journal = Journal(db, "002_five", "up")
        scripts = db.scripts
        with scripts.outside_transaction():
            journal.open()
            for number, sql in enumerate(statements[:3], 1):
                journal.begin(number, sql)
                if number < 3 or done:
                    scripts.run_statement(sql)
                if number < 3:
                    journal.end(number)
    with pytest.raises(MigrationStatementUnknownError) as caught:
        desk.up()
    assert "statement 3 of 002_five" in str(caught.value)
    assert "insert into one values (3);" in str(caught.value)
    assert "statement 3 began but did not end" in desk.describe_states()["002_five"][1]
    with desk.open_app() as app:
        assert "repair 002_five --statement" in verify.verify(app, find_targets(app)).findings[0].hint
    outcome = repair.StatementOutcome.DONE if done else repair.StatementOutcome.UNDONE
    with desk.open_app() as app:
        change = repair.repair(app, find_targets(app), [], names=["2"], outcome=outcome)
        result = "has run" if done else "has not run"
        assert change.plan().steps == [f"record that statement 3 of 002_five {result}"]
        assert change.plan().rows == {migration_journal.TABLE: 1}
        assert [(repaired.was, repaired.now) for repaired in change.apply(change.plan().digest).items] == [
            ("failed", "failed")
        ]
    with desk.open_app() as app:
        assert repair.repair(app, find_targets(app), [], outcome=outcome).plan().is_empty
    with desk.open_app() as app, app.writer("main") as db, pytest.raises(MigrationStepMissingError):
        resolve_statement(db, "002_five", done=done)
    desk.up()
    assert (desk.count("one"), desk.count("four")) == (2, 1)
    assert desk.states() == ["applied", "applied"]


def test_ledger_overrides_the_journal(desk):
    """Simulate a migration that the user or the app completed by other means."""
    desk.write({"002_five": OUTSIDE + FIVE.format("insert into nosuch values (1);")})
    with pytest.raises(MigrationPartialError):
        desk.up()
    desk.base.run("insert into schema_migrations (version) values ('002')")
    assert desk.states() == ["applied", "applied"]
    desk.base.run("delete from schema_migrations where version = '002'", "drop table one")
    with desk.open_app() as app:
        (step,) = repair.repair(app, find_targets(app), ["failed"]).plan().steps
    assert "its effects remain (statements 1–2 of 5 are applied)" in step
    desk.write({"002_five": OUTSIDE + "create table other (id integer);"})
    with pytest.raises(MigrationStepsChangedError):
        desk.up()


def find_dialect(desk):
    return registry.load_engine(desk.engine).script_dialect


def test_session_settings_are_repeated_when_a_migration_continues(tmp_path):
    with deployments.create_desk("mysql", tmp_path / "desk") as desk:
        desk.write(
            {
                "001_a": "create table a (id integer primary key);\ncreate table b (a integer, foreign key (a) references a (id));\n"
            }
        )
        desk.up()
        text = "set foreign_key_checks = 0;\ninsert into nosuch values (1);\n"
        desk.write({"002_b": "insert into a values (1);\n" + text})
        with pytest.raises(MigrationPartialError):
            desk.up()
        desk.write(
            {"002_b": "insert into a values (1);\n" + text.replace("nosuch", "b").replace("(1)", "(7)")}
        )
        desk.up()
        assert desk.count("b") == 1


def test_killed_migration_continues_after_any_statement(desk):
    """The process exits after the nth statement ran and was recorded."""
    statements = [f"create table t{number} (id integer);" for number in range(1, 5)]
    desk.write({"002_four": OUTSIDE + "\n".join(statements)})
    for number in range(1, 4):
        kill_after_statement(desk, number)
        state, detail = desk.describe_states()["002_four"]
        assert state == "failed", detail
        assert f"t{number}" in desk.tables()
        assert f"t{number + 1}" not in desk.tables()
    desk.up()
    assert {f"t{number}" for number in range(1, 5)} <= desk.tables()
    assert desk.states() == ["applied", "applied"]


def kill_after_statement(desk, number):
    child = os.fork()
    if child == 0:
        original_end = Journal.end

        def end(self, ended_number):
            original_end(self, ended_number)
            if ended_number == number:
                os._exit(9)

        Journal.end = end
        desk.up()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


# Outside a transaction ----------------------------------------------------------------------------------------------


def test_no_transaction_directive_allows_vacuum(tmp_path):
    with deployments.create_desk("sqlite", tmp_path / "desk") as desk:
        desk.write(
            {"001_first": "create table t (x);", "002_shrink": "pragma journal_mode = delete;\nvacuum;\n"}
        )
        with pytest.raises(MigrationInvalidError, match="-- dbctl: no-transaction"):
            desk.up()
        desk.write({"002_shrink": OUTSIDE + "pragma journal_mode = delete;\nvacuum;\n"})
        assert len(desk.up()) == 2
        assert desk.base.rows("pragma journal_mode") == [("delete",)]


@pytest.mark.parametrize(
    ("pragma", "sql", "expected"),
    [
        ("ignore_check_constraints = 1", "insert or ignore into t values (-1);", 0),
        ("recursive_triggers = 1", "insert into t values (1);", 2),
        ("case_sensitive_like = 1", "insert into t select 5 where 'a' like 'A';", 1),
        (
            "trusted_schema = 0",
            "create table j (x check (json_valid(x))); insert into j values (1); insert into t values (5);",
            1,
        ),
    ],
)
def test_pragma_of_one_migration_does_not_apply_to_the_next(tmp_path, pragma, sql, expected):
    first = """create table t (x check (x > 0));
create trigger again after insert on t when new.x < 5 begin insert into t values (new.x + 1); end;"""
    with deployments.create_desk("sqlite", tmp_path / "desk") as desk:
        desk.write({"001_first": f"{OUTSIDE}{first}\npragma {pragma};\n", "002_second": f"{sql}\n"})
        assert len(desk.up()) == 2
        assert desk.base.rows("select count(*) from t") == [(expected,)]


def test_migration_after_one_without_a_journal_file_is_rolled_back(tmp_path):
    # More pages than the cache holds: the first ones are written before the rollback.
    rows = "with recursive n (i) as (values (1) union all select i + 1 from n where i < 999)"
    fill = f"create table t (x);\ninsert into t {rows} select zeroblob(4000) from n;\n"
    with deployments.create_desk("sqlite", tmp_path / "desk") as desk:
        desk.write({"001_first": f"{OUTSIDE}{fill}pragma cache_size = 9;\npragma journal_mode = off;\n"})
        desk.write({"002_second": "update t set x = randomblob(4000);\ncreate table t (x);\n"})
        with pytest.raises(MigrationFailedError):
            desk.up()
        assert desk.base.rows("select count(*) from t where x = zeroblob(4000)") == [(999,)]


@pytest.mark.parametrize(
    ("setting", "expression"),
    [
        ("timestamp = 1000000000", "now() > '2020-01-01'"),
        ("sql_log_bin = 0", "@@sql_log_bin"),
        ("default_tmp_storage_engine = MyISAM", "@@default_tmp_storage_engine is null"),
        ("max_statement_time = 70", "@@max_statement_time = 0"),
        ("lc_time_names = 'de_DE'", "@@lc_time_names = 'en_US'"),
        ("insert_id = 7", "@@insert_id = 0"),
    ],
)
@pytest.mark.mariadb
def test_variable_of_one_migration_does_not_apply_to_the_next(tmp_path, setting, expression):
    with deployments.create_desk("mysql", tmp_path / "desk") as desk:
        desk.write({"001_first": f"create table t (x integer);\nset {setting};\n"})
        desk.write({"002_second": f"insert into t select {expression};\n"})
        assert len(desk.up()) == 2
        assert desk.base.rows("select x from t") == [(1,)]


@pytest.mark.mariadb
def test_role_of_one_migration_does_not_apply_to_the_next(tmp_path):
    with deployments.create_desk("mysql", tmp_path / "desk") as desk:
        role = desk.base.own.path
        desk.base.run(f"create role {role}")
        try:
            desk.base.run(f"grant all on {role}.* to {role}")
            desk.write({"001_first": f"create table t (x varchar(80));\nset role {role};\n"})
            desk.write({"002_second": "insert into t values (coalesce(current_role(), 'none'));\n"})
            assert len(desk.up()) == 2
            assert desk.base.rows("select x from t") == [("none",)]
        finally:
            desk.base.run(f"drop role {role}")


HIDDEN_LEDGER = "create temporary table schema_migrations as select * from schema_migrations;"


@pytest.mark.parametrize("directive", ["", OUTSIDE])
@pytest.mark.parametrize(
    ("engine", "sql"),
    [
        ("sqlite", "create temporary table t (x integer);"),
        ("sqlite", "create temporary view t as select 1 as x;"),
        ("sqlite", "create temporary trigger t after insert on main.t begin delete from t; end;"),
        ("postgresql", "create temporary table t (x integer);"),
        ("postgresql", "create temporary view t as select 1 as x;"),
        ("mysql", "create temporary table t (x integer);"),
        *((engine, HIDDEN_LEDGER) for engine in ("sqlite", "postgresql", "mysql")),
    ],
)
def test_temporary_object_of_one_migration_is_absent_in_the_next(tmp_path, engine, directive, sql):
    with deployments.create_desk(engine, tmp_path / "desk") as desk:
        desk.write({"001_first": "create table t (x integer);", "002_second": directive + sql})
        desk.write({"003_third": "insert into t values (1);"})
        assert len(desk.up()) == 3
        assert (desk.count("t"), desk.states()) == (1, ["applied"] * 3)


@pytest.mark.parametrize("directive", ["", OUTSIDE])
@pytest.mark.parametrize(
    ("engine", "sql", "state"),
    [
        ("mysql", "set @Mark = 'left';", "@mark"),
        ("mysql", "select 'left' into @mark;", "@mark"),
        ("postgresql", "listen left_over;", "(select max(name) from pg_listening_channels() name)"),
        ("postgresql", "select nextval('numbers');", "number()"),
    ],
)
def test_state_of_the_session_of_one_migration_is_absent_in_the_next(tmp_path, engine, directive, sql, state):
    with deployments.create_desk(engine, tmp_path / "desk") as desk:
        number = (
            "begin return lastval(); exception when object_not_in_prerequisite_state then return null; end"
        )
        first = "create table t (x varchar(80));"
        if engine == "postgresql":
            first += f"create sequence numbers; create function number() returns text language plpgsql as $$ {number} $$;"
        desk.write({"001_first": first, "002_second": directive + sql})
        desk.write({"003_third": f"insert into t values (coalesce({state}, 'none'));"})
        assert len(desk.up()) == 3
        assert desk.base.rows("select x from t") == [("none",)]


@pytest.mark.parametrize(
    "sql",
    [
        "begin;",
        "commit;",
        "attach 'x.db' as x;",
        "savepoint s;",
        "vacuum into 'x.db';",
        "pragma writable_schema = 1;",
        "pragma query_only = 1;",
        "pragma count_changes = 1;",
    ],
)
def test_transaction_control_is_refused_outside_a_transaction_too(tmp_path, sql):
    with deployments.create_desk("sqlite", tmp_path / "desk") as desk:
        desk.write({"001_first": f"{OUTSIDE}create table t (x);\n{sql}\n"})
        with pytest.raises(MigrationInvalidError, match="line 3"):
            desk.up()
        assert not (desk.folder / "desk.db").exists()
        assert not (desk.folder / "x.db").exists()


@pytest.mark.parametrize(
    ("engine", "sql"),
    [
        ("postgresql", "discard all;"),
        ("postgresql", "select pg_catalog.pg_advisory_unlock_all();"),
        ("mysql", "do release_all_locks();"),
        ("mysql", "flush tables with read lock;"),
        ("mysql", "set @@session.sql_mode = '';"),  # the record quotes names with ANSI_QUOTES
        ("mysql", "/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;"),
        ("mysql", "create table u (x int) /*!40000 engine=InnoDB */; /*!40000 commit */;"),
    ],
)
def test_statement_that_releases_the_lock_or_prevents_the_record_is_refused(tmp_path, engine, sql):
    with deployments.create_desk(engine, tmp_path / "desk") as desk:
        desk.write({"001_first": f"{OUTSIDE}create table t (x integer);\n{sql}\n"})
        with pytest.raises(MigrationInvalidError, match="line 3"):
            desk.up()
        assert desk.tables() == set()


def test_concurrent_index_is_created_and_an_invalid_one_dropped_first(tmp_path):
    with deployments.create_desk("postgresql", tmp_path / "desk") as desk:
        desk.write({"001_first": "create table t (x integer);\n"})
        desk.up()
        desk.base.run("insert into t values (1), (1)")
        desk.write({"002_index": 'create unique index concurrently "By X" on t (x);'})
        with pytest.raises(MigrationInvalidError, match="-- dbctl: no-transaction"):
            desk.up()
        desk.write({"002_index": OUTSIDE + 'create unique index concurrently "By X" on t (x);'})
        with pytest.raises(MigrationPartialError) as failed:
            desk.up()
        assert 'drop index concurrently "By X"' in failed.value.hint
        assert desk.describe_states()["002_index"][0] == "failed"
        desk.base.run("delete from t where ctid = (select min(ctid) from t)")
        desk.up()
        assert desk.base.rows(
            "select indisvalid from pg_index i join pg_class c on c.oid = indexrelid where relname = 'By X'"
        ) == [(True,)]
        assert desk.states() == ["applied", "applied"]
        with desk.open_app() as app:
            assert drift.drift(app, find_targets(app)).findings == []


def test_index_that_a_lock_timeout_left_is_named_and_dropped_first(tmp_path):
    with deployments.create_desk("postgresql", tmp_path / "desk") as desk:
        desk.write({"001_first": "create table t (x integer);\ninsert into t values (1);\n"})
        desk.up()
        desk.write({"002_index": OUTSIDE + "create index concurrently by_x on t (x);"})
        with closing(servers.connection(desk.base.own)) as other:
            other.execute("begin")
            other.execute("update t set x = 2")
            with pytest.raises(MigrationPartialError) as failed:
                desk.up(timeout=0.2)
        assert 'drop index concurrently "by_x"' in failed.value.hint
        assert [migration.name for migration in desk.up()] == ["002_index"]


def test_lock_timeout_of_the_first_statement_stays_pending(tmp_path):
    with deployments.create_desk("mysql", tmp_path / "desk") as desk:
        desk.write({"001_first": "create table t (x integer);\n"})
        desk.up()
        desk.write({"002_column": "alter table t add column y integer;"})
        with desk.base.connect() as fetch:
            fetch("start transaction")
            fetch("select * from t")
            with pytest.raises(BusyError):
                desk.up(timeout=0.2)
        assert desk.describe_states()["002_column"] == ("pending", "")
        assert migration_journal.TABLE not in desk.tables()


def test_rows_that_a_failed_statement_left_in_a_table_without_transactions_are_reported(tmp_path):
    with deployments.create_desk("mysql", tmp_path / "desk") as desk:
        desk.write(
            {
                "001_first": "create table t (x integer primary key) engine = MyISAM;\ninsert into t values (3);"
            }
        )
        desk.up()
        desk.write({"002_rows": "insert into t values (1), (2), (3);\ninsert into nosuch values (1);"})
        with pytest.raises(MigrationPartialError, match="statement 1") as failed:
            desk.up()
        assert "may remain in t," in failed.value.hint
        assert desk.count("t") == 3
        with pytest.raises(MigrationStatementUnknownError):
            desk.up()
        desk.base.run("delete from t where x < 3")
        desk.write({"002_rows": "insert into t values (1), (2);\nselect 1;"})
        with desk.open_app() as app:
            repair.repair(app, find_targets(app), [], outcome=repair.StatementOutcome.UNDONE).apply()
        desk.up()
        assert (desk.count("t"), desk.states()) == (3, ["applied", "applied"])


def test_enum_value_is_added_and_used(tmp_path):
    with deployments.create_desk("postgresql", tmp_path / "desk") as desk:
        desk.write({"001_first": "create type mood as enum ('sad');\ncreate table t (m mood);"})
        desk.write(
            {
                "002_glad": f"{OUTSIDE}alter type mood add value 'glad';\ninsert into t values ('glad');\nvacuum t;"
            }
        )
        assert len(desk.up()) == 2
        assert desk.count("t") == 1


def test_drop_database_is_refused(tmp_path):
    with deployments.create_desk("mysql", tmp_path / "desk") as desk:
        desk.write({"001_first": f"create table t (x integer);\ndrop database {desk.base.own.path};\n"})
        with pytest.raises(MigrationInvalidError, match="DROP DATABASE"):
            desk.up()
        assert desk.tables() == set()
