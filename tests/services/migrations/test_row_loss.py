"""Rows that a migration would take away: none goes unless its file says so."""

import subprocess
import sys
import time

import pytest

from dbctl.engines import registry
from dbctl.errors import MigrationMissingError, RowsLostError
from tests.services.migrations import deployments


@pytest.fixture(params=deployments.PLACES)
def desk(request, tmp_path):
    with deployments.settled(request.param, tmp_path / "desk") as made:
        made.write(deployments.FIRST)
        made.up()
        yield made


LOSING = {
    "delete": "delete from books where author = 1;",
    "drop": "drop table books;",
    "cascade": "delete from authors where id = 3;",
}
#: The same in a comment of which MySQL and MariaDB run what it holds; the others find no statement in it.
HIDDEN = {"delete": "/*!40000 delete from books */;", "drop": "drop /*M!100000 table */ /*! books */;"}


@pytest.mark.parametrize("how", LOSING)
def test_rows_that_go_undeclared_are_refused_and_nothing_is_done(desk, how):
    desk.write({"003_less": f"create table notes (id integer);\n{LOSING[how]}\n"})
    with pytest.raises(RowsLostError) as refused:
        desk.up()
    assert "books (5 rows" in str(refused.value) or "authors (3 rows" in str(refused.value)
    assert "-- dbctl: allow-data-loss" in refused.value.hint
    assert (desk.count("authors"), desk.count("books")) == (3, 5)
    assert "notes" not in desk.tables()
    assert desk.states() == ["applied", "applied", "pending"]
    assert "dbctl_migration_steps" not in desk.tables()


@pytest.mark.parametrize("how", HIDDEN)
def test_what_a_comment_hides_is_refused_before_anything_runs(tmp_path, how):
    with deployments.settled("mysql", tmp_path / "desk") as desk:
        desk.write(deployments.FIRST)
        desk.up()
        desk.write({"003_less": f"create table notes (id integer);\n{HIDDEN[how]}\n"})
        with pytest.raises(RowsLostError, match=r"books \(5 rows"):
            desk.up()
        assert desk.count("books") == 5
        assert "notes" not in desk.tables()


@pytest.mark.parametrize(("how", "left"), [("delete", {"books": 2}), ("drop", {"books": 5})])
def test_rows_that_go_as_declared_are_told(desk, how, left):
    desk.write({"003_less": f"-- dbctl: allow-data-loss\n{LOSING[how]}\n"})
    assert [one.rows_lost for one in desk.up()] == [left]
    assert desk.states() == ["applied"] * 3


def test_what_is_lost_step_by_step_is_told_too(desk):
    desk.write(
        {
            "003_less": f"-- dbctl: no-transaction allow-data-loss\n{LOSING['delete']}\ndelete from books where id = 5;"
        }
    )
    assert [one.rows_lost for one in desk.up()] == [{"books": 3}]


def test_a_file_that_is_not_ours_may_be_let_take_rows_away(desk):
    desk.write({"003_less": LOSING["delete"], "004_drop": LOSING["drop"]})
    with pytest.raises(RowsLostError, match="004_drop"):
        desk.up(losing=["3"])
    assert desk.count("books") == 3
    assert [one.rows_lost for one in desk.up(losing=["004_drop"])] == [{"books": 3}]
    assert "books" not in desk.tables()
    with pytest.raises(MigrationMissingError):
        desk.up(losing=["9"])


def test_a_table_that_is_renamed_loses_nothing(desk):
    desk.write({"003_rename": "alter table books rename to volumes;\nupdate volumes set id = id + 10;\n"})
    assert [one.rows_lost for one in desk.up()] == [{}]
    assert desk.count("volumes") == 5


def test_an_update_and_an_insert_are_no_loss(desk):
    desk.write(
        {"003_more": "update authors set name = 'x';\ninsert into authors values (4, 'delete from books');\n"}
    )
    assert [one.rows_lost for one in desk.up()] == [{}]


def test_rows_that_the_same_run_made_are_nobodys(tmp_path):
    with deployments.settled("sqlite", tmp_path / "new") as desk:
        desk.write(deployments.FIRST)
        desk.write({"003_less": "delete from books;\n"})
        assert [one.name for one in desk.up()][-1] == "003_less"
        assert desk.count("books") == 0


def test_rows_that_the_app_deletes_meanwhile_are_not_the_migrations_doing(tmp_path):
    with deployments.settled("postgresql", tmp_path / "desk") as desk:
        desk.write(deployments.FIRST)
        desk.up()
        # The sleep stands for a long statement; the app deletes in the middle of it.
        desk.write({"003_slow": "update authors set name = 'x';\nselect pg_sleep(1.5);"})
        running = started(desk)
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


def started(desk):
    return subprocess.Popen(
        [sys.executable, "-m", "dbctl", "migrate", "up", "--no-backup"],
        cwd=desk.folder,
        env=deployments.CLEAN,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_table_built_anew_keeps_the_rows_that_hang_on_it(tmp_path):
    with deployments.settled("sqlite", tmp_path / "rebuild") as desk:
        desk.write(deployments.FIRST)
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
    ("sql", "may", "drops", "empties"),
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
        ("insert into a values ('delete from b')", False, [], []),
        ("insert or replace into a values (1)", True, [], []),
        ("replace into a values (1)", True, [], []),
        ("update a set x = 1", True, [], []),
        ("select destroy_all()", True, [], []),
        ("/* delete from a */ create index i on a (x)", False, [], []),
    ],
)
def test_statements_are_judged_by_their_words_and_with_care(engine, sql, may, drops, empties):
    found = registry.language(engine).effect(sql)
    assert (found.may_take_rows, list(found.drops), list(found.empties)) == (may, drops, empties)


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
def test_what_destroys_is_told_from_what_does_not(sql, destroys):
    assert registry.language("mysql").effect(sql).destroys is destroys
