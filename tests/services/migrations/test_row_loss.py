"""Row loss: a migration deletes rows only if its file or an option allows it."""

import subprocess
import sys
import time

import pytest

from dbctl.engines import registry
from dbctl.errors.migrations import MigrationMissingError, RowsLostError
from tests.services.migrations import deployments

LOSING = {
    "delete": "delete from books where author = 1;",
    "drop": "drop table books;",
    "cascade": "delete from authors where id = 3;",
}
#: The same statements in executable comments of MySQL and MariaDB; other engines ignore them.
HIDDEN = {"delete": "/*!40000 delete from books */;", "drop": "drop /*M!100000 table */ /*! books */;"}


@pytest.mark.parametrize("kind", LOSING)
def test_undeclared_row_loss_is_refused(desk, kind):
    desk.write({"003_less": f"create table notes (id integer);\n{LOSING[kind]}\n"})
    with pytest.raises(RowsLostError) as caught:
        desk.up()
    assert "books (5 rows" in str(caught.value) or "authors (3 rows" in str(caught.value)
    assert "-- dbctl: allow-data-loss" in caught.value.hint
    assert (desk.count("authors"), desk.count("books")) == (3, 5)
    assert "notes" not in desk.tables()
    assert desk.states() == ["applied", "applied", "pending"]
    assert "dbctl_migration_steps" not in desk.tables()


def test_undeclared_deletion_of_the_ledger_is_refused(desk):
    desk.write({"003_less": "delete from schema_migrations;"})
    with pytest.raises(RowsLostError, match=r"schema_migrations \(2 rows"):
        desk.up()
    assert desk.states() == ["applied", "applied", "pending"]


@pytest.mark.parametrize("kind", HIDDEN)
def test_row_loss_in_executable_comments_is_refused(tmp_path, kind):
    with deployments.create_desk("mysql", tmp_path / "desk") as desk:
        desk.write(deployments.INITIAL_FILES)
        desk.up()
        desk.write({"003_less": f"create table notes (id integer);\n{HIDDEN[kind]}\n"})
        with pytest.raises(RowsLostError, match=r"books \(5 rows"):
            desk.up()
        assert desk.count("books") == 5
        assert "notes" not in desk.tables()


@pytest.mark.parametrize(("kind", "rows_lost"), [("delete", {"books": 2}), ("drop", {"books": 5})])
def test_declared_row_loss_is_reported(desk, kind, rows_lost):
    desk.write({"003_less": f"-- dbctl: allow-data-loss\n{LOSING[kind]}\n"})
    assert [migration.rows_lost for migration in desk.up()] == [rows_lost]
    assert desk.states() == ["applied"] * 3


def test_row_loss_outside_a_transaction_is_reported(desk):
    desk.write(
        {
            "003_less": f"-- dbctl: no-transaction allow-data-loss\n{LOSING['delete']}\ndelete from books where id = 5;"
        }
    )
    assert [migration.rows_lost for migration in desk.up()] == [{"books": 3}]


def test_option_allows_data_loss_for_a_file(desk):
    desk.write({"003_less": LOSING["delete"], "004_drop": LOSING["drop"]})
    with pytest.raises(RowsLostError, match="004_drop"):
        desk.up(allow_data_loss=["3"])
    assert desk.count("books") == 3
    assert [migration.rows_lost for migration in desk.up(allow_data_loss=["004_drop"])] == [{"books": 3}]
    assert "books" not in desk.tables()
    with pytest.raises(MigrationMissingError):
        desk.up(allow_data_loss=["9"])


def test_renamed_table_is_no_row_loss(desk):
    desk.write({"003_rename": "alter table books rename to volumes;\nupdate volumes set id = id + 10;\n"})
    assert [migration.rows_lost for migration in desk.up()] == [{}]
    assert desk.count("volumes") == 5


def test_update_and_insert_are_no_row_loss(desk):
    desk.write(
        {"003_more": "update authors set name = 'x';\ninsert into authors values (4, 'delete from books');\n"}
    )
    assert [migration.rows_lost for migration in desk.up()] == [{}]


def test_rows_inserted_by_the_same_run_are_no_row_loss(tmp_path):
    with deployments.create_desk("sqlite", tmp_path / "new") as desk:
        desk.write(deployments.INITIAL_FILES)
        desk.write({"003_less": "delete from books;\n"})
        assert [migration.name for migration in desk.up()][-1] == "003_less"
        assert desk.count("books") == 0


@pytest.mark.slow
def test_rows_deleted_by_the_app_are_no_row_loss(tmp_path):
    with deployments.create_desk("postgresql", tmp_path / "desk") as desk:
        desk.write(deployments.INITIAL_FILES)
        desk.up()
        # The sleep simulates a long statement; the app deletes rows during it.
        desk.write({"003_slow": "update authors set name = 'x';\nselect pg_sleep(1.5);"})
        running = start_migrate_up(desk)
        wait_for(
            desk,
            "select 1 from pg_stat_activity where query like 'select pg_sleep(1.5)%' and datname = current_database()",
        )
        desk.base.run("delete from books where id = 5")
        assert running.wait(timeout=60) == 0
        assert desk.states() == ["applied"] * 3
        assert desk.count("books") == 4
        desk.write({"004_own": "delete from books where id = 4;"})
        with pytest.raises(RowsLostError):
            desk.up()
        desk.write({"004_own": "do $$ begin execute 'trunc' || 'ate books'; end $$;"})
        with pytest.raises(RowsLostError):
            desk.up()
        assert desk.count("books") == 4


def wait_for(desk, sql):
    deadline = time.monotonic() + 30
    while not desk.base.rows(sql) and time.monotonic() < deadline:
        time.sleep(0.02)


def start_migrate_up(desk):
    return subprocess.Popen(
        [sys.executable, "-m", "dbctl", "migrate", "up", "--no-backup"],
        cwd=desk.folder,
        env=deployments.ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_rebuilt_table_keeps_referencing_rows(tmp_path):
    with deployments.create_desk("sqlite", tmp_path / "rebuild") as desk:
        desk.write(deployments.INITIAL_FILES)
        desk.up()
        rebuild = """create table authors_new (id integer primary key, name text not null default '');
insert into authors_new select id, name from authors{};
drop table authors;
alter table authors_new rename to authors;"""
        desk.write({"003_forgetful": rebuild.format(" where id > 1")})
        with pytest.raises(RowsLostError, match=r"authors \(3 rows, 2 left\)"):
            desk.up()
        assert (desk.count("authors"), desk.count("books")) == (3, 5)
        desk.write({"003_forgetful": rebuild.format("")})
        desk.up()
        assert (desk.count("authors"), desk.count("books")) == (3, 5)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
@pytest.mark.parametrize(
    ("sql", "may_delete", "drops", "empties"),
    [
        ("create table a (x integer default 1)", False, [], []),
        ("create trigger t after insert on a begin delete from b; end", False, [], []),
        ("create table a as select 1", True, [], []),
        ("create or replace table a (x integer)", True, ["a"], []),
        ("alter table a add column x text", False, [], []),
        ("alter table a add x text, drop y", True, [], []),
        ("alter table a drop constraint c", True, [], []),
        ('drop table if exists "a""b", main.c cascade', True, ['a"b', "c"], []),
        ("drop table a -- , b", True, ["a"], []),
        ("delete from only public.a where x = 'drop table b'", True, [], ["a"]),
        ("with gone as (delete from a returning x) insert into b select x from gone", True, [], ["a"]),
        ("truncate table a, b", True, [], ["a", "b"]),
        ("delete x from a as x join b y on x.id < y.id where y.x = 1", True, [], ["a"]),
        ("delete x, y from a x, c.b as y where x.id = y.id", True, [], ["a", "b"]),
        ("delete from x using a x join b on x.id = b.id", True, [], ["a"]),
        ("delete from a using b where a.id = b.id", True, [], ["a"]),
        ("insert into a values ('delete from b')", False, [], []),
        ("insert or replace into a values (1)", True, [], []),
        ("replace into a values (1)", True, [], []),
        ("update a set x = 1", True, [], []),
        ("select destroy_all()", True, [], []),
        ("/* delete from a */ create index i on a (x)", False, [], []),
    ],
)
def test_effect_of_a_statement_is_detected(engine, sql, may_delete, drops, empties):
    effect = registry.load_engine(engine).script_dialect.effect(sql)
    assert (effect.may_delete_rows, list(effect.dropped_tables), list(effect.emptied_tables)) == (
        may_delete,
        drops,
        empties,
    )


@pytest.mark.parametrize(
    ("sql", "destroys"),
    [
        ("alter table a drop column x", True),
        ("alter table a drop x", True),
        ("alter table a drop primary key", False),
        ("alter table a alter column x drop not null", False),
        ("alter table a drop partition p", True),
        ("drop schema s cascade", True),
        ("drop index i", False),
        ("delete a, b.* from a join b on true", True),
        ("/*!40000 drop table a */", True),
        ("/*!40000 alter table a drop x */", True),
        ("drop /*!40000 if exists x */ table a", True),
        ("create table a /*! (x int); */ as select 1", False),
        ("/*!40101 set names utf8 */", False),
    ],
)
def test_destructive_statement_is_detected(sql, destroys):
    assert registry.load_engine("mysql").script_dialect.effect(sql).is_destructive is destroys
