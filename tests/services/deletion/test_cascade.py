"""The planned cascade of a deletion matches the rows that SQLite deletes; each row is counted once."""

from __future__ import annotations

import sqlite3
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.engines.contract.database import Condition, Not
from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.errors.connection import ConstraintError
from dbctl.services.deletion.cascade import AffectedRows, count_affected_rows, find_affected_rows
from tests import servers
from tests.databases import empty_database

SCHEMA = """
create table people (id integer primary key, boss integer references people (id) on delete set null);
create table notes (
    id integer primary key,
    author integer references people (id) on delete cascade,
    reader integer references people (id) on delete cascade,
    seen_by integer references people (id) on delete set null
);
create table marks (
    id integer primary key,
    note integer references notes (id) on delete cascade,
    by integer references people (id) {by}
);
insert into people (id, boss) values (1, null), (2, 1);
insert into notes (id, author, reader, seen_by) values (1, 1, 1, 2), (2, 1, 2, 1), (3, 2, 2, 1);
insert into marks (id, note, by) values (1, 1, 1), (2, 2, 2), (3, 3, 2);
"""


def create_database(path: Path, by: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        for statement in SCHEMA.format(by=by).split(";"):
            connection.execute(statement)
        connection.commit()
    return path


def list_affected(path: Path) -> dict[str, list[int]]:
    with closing(SQLiteReader(path, "app/user")) as db:
        counts: dict[str, list[int]] = {}
        for affected in find_affected_rows(db, {"people": [Condition("id", "=", 1)]}):
            counts.setdefault(affected.table, []).append(affected.rows)
        return counts


def delete_person(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma foreign_keys = on")
        before = {
            table: connection.execute(f"select count(*) from {table}").fetchone()[0]
            for table in ("notes", "marks")
        }
        connection.execute("delete from people where id = 1")
        after = {table: connection.execute(f"select count(*) from {table}").fetchone()[0] for table in before}
    return {table: before[table] - after[table] for table in before}


def test_row_with_two_foreign_keys_to_deleted_rows_is_counted_once(tmp_path):
    path = create_database(tmp_path / "a.db", "on delete cascade")
    counts = list_affected(path)
    assert (
        {"notes": counts["notes"][0], "marks": counts["marks"][0]}
        == delete_person(path)
        == {"notes": 2, "marks": 2}
    )
    assert counts["notes"][1] == 1, "the remaining note loses its reader; deleted notes are not counted again"


def test_foreign_key_without_action_does_not_block_rows_deleted_by_another_key(tmp_path):
    path = create_database(tmp_path / "a.db", "")
    assert list_affected(path)["marks"] == [2]
    assert delete_person(path) == {"notes": 2, "marks": 2}


def test_remaining_row_that_refers_to_a_deleted_row_refuses_the_plan(tmp_path):
    path = create_database(tmp_path / "a.db", "")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("update marks set by = 1 where id = 3")
        connection.commit()
    with pytest.raises(ConstraintError, match="1 row of marks"):
        list_affected(path)
    with pytest.raises(sqlite3.IntegrityError):
        delete_person(path)


@pytest.mark.parametrize("key", ["integer primary key", "integer not null unique", "integer unique"])
@pytest.mark.parametrize("parent_of_first", ["null", "5"])
def test_rows_below_a_row_of_the_same_table_are_counted(tmp_path, parent_of_first, key):
    path, leaf = tmp_path / "a.db", "null" if key == "integer unique" else "7"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            f"create table people (id {key}, boss integer references people (id) on delete cascade)"
        )
        connection.execute("create table notes (author integer references people (id) on delete cascade)")
        connection.execute(
            f"insert into people values (1, {parent_of_first}), (2, 1), (3, 2), (4, 2), (5, 4), (6, null), ({leaf}, 2)"
        )
        connection.execute("insert into notes values (1), (3), (5), (6)")
        connection.commit()
    counts = list_affected(path)
    assert {table: sum(rows) for table, rows in counts.items()} == {"people": 5, "notes": 3}
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma foreign_keys = on")
        connection.execute("delete from people where id = 1")
        assert connection.execute("select * from people").fetchall() == [(6, None)]
        assert connection.execute("select * from notes").fetchall() == [(6,)]


def test_rows_below_a_row_of_the_same_table_are_counted_by_a_column_that_is_no_key(tmp_path):
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "create table people (id integer primary key, code integer unique, boss integer references people (code) on delete cascade)"
        )
        connection.execute(
            "insert into people values (1, 3, null), (2, 4, 3), (3, 5, 4), (4, 1, null), (5, 6, 1), (6, 2, null), (7, 7, 2)"
        )
    assert sum(list_affected(path)["people"]) == 2
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma foreign_keys = on")
        connection.execute("delete from people where id = 1")
        assert connection.execute("select id from people order by id").fetchall() == [(4,), (5,), (6,), (7,)]


def test_rows_that_a_cycle_of_tables_deletes_are_counted(tmp_path):
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("""
            create table people (id integer primary key, team integer references teams (id) on delete cascade,
                boss integer references people (id) on delete set null);
            create table teams (id integer primary key, owner integer references people (id) on delete cascade);
            insert into people values (1, 10, null), (2, 11, 1), (3, 12, 2), (4, null, 3), (5, 10, null);
            insert into teams values (10, 5), (11, 1), (12, 2), (13, 3), (14, 4);
            """)
    assert list_affected(path) == {"people": [2, 1], "teams": [3]}
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma foreign_keys = on")
        connection.execute("delete from people where id = 1")
        assert connection.execute("select * from people").fetchall() == [(4, None, None), (5, 10, None)]
        assert connection.execute("select id from teams").fetchall() == [(10,), (14,)]


def test_references_to_the_same_table_that_become_null_are_planned(tmp_path):
    path = create_database(tmp_path / "a.db", "on delete cascade")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("insert into people values (3, 1), (4, 2), (5, null)")
    assert list_affected(path)["people"] == [2]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma foreign_keys = on")
        connection.execute("delete from people where id = 1")
        remaining = connection.execute("select id, boss from people order by id").fetchall()
    assert remaining == [(2, None), (3, None), (4, 2), (5, None)]


def test_references_within_a_cycle_of_tables_that_become_null_are_planned(tmp_path):
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in (
            "create table people (id integer primary key, favorite integer references notes (id) on delete set null)",
            "create table notes (id integer primary key, author integer references people (id) on delete cascade)",
            "insert into people values (1, 1), (2, 1), (3, 2), (4, null)",
            "insert into notes values (1, 1), (2, 4)",
        ):
            connection.execute(statement)
    # the row of person 1 is deleted, and that of person 2 remains
    assert list_affected(path) == {"notes": [1], "people": [1]}


def test_affected_rows_of_a_table_are_counted_once(tmp_path):
    path = create_database(tmp_path / "a.db", "on delete cascade")

    def affect(table, rows, where=None):
        return AffectedRows(table=table, rows=rows, step="", kind="deleted", where=where)

    first, later = Condition("id", "<", 3), Condition("id", ">", 1)
    with closing(SQLiteReader(path, "app/user")) as db:
        overlapping = [affect("notes", 2, first), affect("notes", 2, later)]
        assert count_affected_rows(db, overlapping) == {"notes": 3}
        assert count_affected_rows(db, overlapping, named={"notes": Condition("id", "=", 2)}) == {"notes": 2}
        assert count_affected_rows(db, [affect("notes", 2, first)]) == {"notes": 2}
        # counts of a plan without conditions are added
        assert count_affected_rows(db, [affect("marks", 2), affect("marks", 1), affect("notes", 0)]) == {
            "marks": 3
        }
        assert count_affected_rows(db, [affect("notes", 2, Not(first))], named={"notes": later}) == {}


def test_rows_that_are_deleted_first_do_not_block_by_a_key_of_several_columns(tmp_path):
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in (
            "create table people (id integer, team integer, primary key (id, team))",
            "create table notes (author integer, team integer, foreign key (author, team) references people (id, team))",
            "insert into people values (1, 7)",
            "insert into notes values (1, 7)",
        ):
            connection.execute(statement)
    with closing(SQLiteReader(path, "app/user")) as db:
        starts = {"people": [Condition("id", "=", 1)]}
        assert find_affected_rows(db, starts, before=["notes.author"]) == []
        with pytest.raises(ConstraintError, match="1 row of notes"):
            find_affected_rows(db, starts, before=["notes.id"])


def test_rows_below_a_row_with_a_key_of_two_columns_are_those_of_both(tmp_path):
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in (
            (
                "create table people (id integer, team integer, boss integer, primary key (id, team),"
                " foreign key (boss, team) references people (id, team) on delete cascade)"
            ),
            "insert into people values (1, 7, null), (2, 7, 1), (3, 7, 2), (2, 8, null), (3, 8, 2)",
        ):
            connection.execute(statement)
    assert list_affected(path) == {"people": [2]}
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma foreign_keys = on")
        connection.execute("delete from people where id = 1")
        assert connection.execute("select id, team from people").fetchall() == [(2, 8), (3, 8)]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
@pytest.mark.parametrize("second", ["number", "1"])
def test_many_rows_below_a_row_with_a_key_of_two_columns_are_deleted(
    answer, tmp_path, monkeypatch, engine, second
):
    """SQLite refuses a condition with more than 1000 nested terms."""
    monkeypatch.setenv("DBCTL_STATE", "off")
    digits = "(" + " union all ".join(f"select {digit} as d" for digit in range(10)) + ")"
    numbers = f"select 2 + a.d + 10 * b.d + 100 * c.d as number from {digits} a, {digits} b, {digits} c, (select 0 as d union all select 1) e"
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table nodes (a integer, b integer, up_a integer, up_b integer, primary key (a, b),"
            " foreign key (up_a, up_b) references nodes (a, b) on delete cascade)",
            "insert into nodes values (1, 1, null, null), (9999, 1, null, null)",
            f"insert into nodes select n.number, {second}, 1, 1 from ({numbers}) n group by n.number",
            f"insert into nodes select n.number + 1000, {second}, 1, 1 from ({numbers}) n group by n.number",
        )
        options = ("--url", f"main={database.url}", "--yes")
        assert answer("data", "delete", "nodes", "1", "1", *options)["data"]["rows"] == {"nodes": 2001}
        assert database.rows("select a, b from nodes") == [(9999, 1)]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_all_rows_of_a_tree_are_deleted_by_one_filter(answer, tmp_path, monkeypatch, engine):
    """SQLite and MariaDB do not count the rows that a foreign key deletes before the statement reaches them."""
    monkeypatch.setenv("DBCTL_STATE", "off")
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table nodes (id integer primary key, up integer,"
            " foreign key (up) references nodes (id) on delete cascade)",
            "insert into nodes values (1, null), (2, 1), (3, 2), (4, null)",
        )
        words = ("data", "delete", "nodes", "--filter", "id<4", "--url", f"main={database.url}", "--yes")
        assert answer(*words)["data"]["rows"] == {"nodes": 3}
        assert database.rows("select id from nodes") == [(4,)]


def test_rows_of_a_tree_that_a_trigger_retains_are_not_reported_as_deleted(answer, tmp_path, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", "off")
    with empty_database("sqlite", tmp_path / "app.db") as database:
        database.run(
            "create table nodes (id integer primary key, up integer references nodes (id) on delete cascade)",
            "insert into nodes values (1, null), (2, 1), (4, null)",
            "create trigger retain before delete on nodes when old.id = 4 begin select raise(ignore); end",
        )
        before = database.content()
        words = ("data", "delete", "nodes", "--filter", "id>0", "--url", f"main={database.url}", "--yes")
        assert "2 of 3 rows were written" in answer(*words, status=6)["error"]["message"]
        assert database.content() == before


def test_rows_deleted_before_their_parents_do_not_block(tmp_path):
    path = create_database(tmp_path / "app.db", "on delete restrict")
    with closing(SQLiteReader(path, "app/user")) as db:
        with pytest.raises(ConstraintError):
            find_affected_rows(db, {"people": [Condition("id", "=", 2)]})
        starts = {"marks": [Condition("id", "in", [2, 3])], "people": [Condition("id", "=", 2)]}
        assert find_affected_rows(db, starts)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])  # others have no SET DEFAULT
def test_references_that_get_their_default_are_planned(answer, tmp_path: Path, engine: str) -> None:
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table people (id integer primary key)",
            "create table notes (id integer primary key, person integer default 1 references people (id) on delete set default)",
            "insert into people values (1), (2)",
            "insert into notes values (1, 2)",
        )
        plan = answer(
            "data",
            "delete",
            "people",
            "2",
            "--dry-run",
            "--profile",
            "plain",
            "--url",
            f"main={database.url}",
        )["data"]["plan"]
        assert plan["steps"][1:] == ["keep 1 row of notes, and set person to the default"]


def test_only_the_columns_that_a_foreign_key_lists_are_planned_to_become_null(answer, tmp_path: Path) -> None:
    with empty_database("postgresql", tmp_path / "app.db") as database:
        database.run(
            "create table people (team integer, id integer primary key, unique (team, id))",
            "create table notes (id integer primary key, team integer not null, author integer,"
            " foreign key (team, author) references people (team, id) on delete set null (author))",
            "insert into people values (1, 2)",
            "insert into notes values (1, 1, 2)",
        )
        words = ("data", "delete", "people", "2", "--url", f"main={database.url}")
        plan = answer(*words, "--dry-run")["data"]["plan"]
        assert plan["steps"] == ["delete people 2", "keep 1 row of notes, and set author to NULL"]
        answer(*words, "--yes")
        assert database.rows("select * from notes") == [(1, 1, None)]


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_rows_of_another_schema_that_a_foreign_key_changes_refuse_the_plan(answer, tmp_path, engine) -> None:
    """Neither the plan nor the log would have them."""
    with (
        empty_database(engine, tmp_path / "app.db") as database,
        servers.mysql_database() if engine == "mysql" else nullcontext() as other,
    ):
        place = other.path if other else "billing"
        create = () if other else ("create schema billing",)
        main = "" if not other else f"{database.own.path}."
        key = f"foreign key (team) references {main}teams (code) on delete cascade on update cascade"
        database.run(
            "create table people (id integer primary key)",
            "create table teams (id integer primary key, person integer, code integer not null unique, name varchar(9),"
            " foreign key (person) references people (id) on delete cascade)",
            *create,
            f"create table {place}.bills (id integer primary key, team integer, {key})",
            "insert into people values (1), (2)",
            "insert into teams values (1, 1, 5, 'a'), (2, 2, 6, 'b')",
            f"insert into {place}.bills values (1, 5)",
        )
        options = ("--url", f"main={database.url}", "--yes")
        error = answer("data", "delete", "people", "1", *options, status=6)["error"]
        assert "bills" in error["message"]
        assert error["hint"] == "Nothing was changed. Delete or change these rows first."
        error = answer("data", "set", "teams", "1", "code=7", *options, status=6)["error"]
        assert "bills" in error["message"]
        assert database.rows(f"select id, team from {place}.bills") == [(1, 5)]
        answer("data", "delete", "people", "2", *options)
        answer("data", "set", "teams", "1", "name=c", *options)
        assert database.rows("select id, name from teams") == [(1, "c")]


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_undo_of_a_new_row_is_refused_for_rows_of_another_schema(
    answer, tmp_path, monkeypatch, engine
) -> None:
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with (
        empty_database(engine, tmp_path / "app.db") as database,
        servers.mysql_database() if engine == "mysql" else nullcontext() as other,
    ):
        place = other.path if other else "billing"
        main = "" if not other else f"{database.own.path}."
        database.run(
            "create table teams (id integer primary key)",
            *(() if other else ("create schema billing",)),
            f"create table {place}.bills (id integer primary key, team integer,"
            f" foreign key (team) references {main}teams (id) on delete cascade)",
        )
        options = ("--url", f"main={database.url}", "--yes")
        answer("data", "add", "teams", "id=1", *options)
        database.run(f"insert into {place}.bills values (1, 1)")
        number = str(answer("audit", "list")["data"]["items"][0]["operation"])
        assert "bills" in answer("undo", number, *options, status=6)["error"]["message"]
        assert database.rows(f"select id, team from {place}.bills") == [(1, 1)]


def test_undo_of_a_new_row_is_refused_if_a_policy_hides_rows_that_refer_to_it(
    answer, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database("postgresql", tmp_path / "app.db") as database:
        role = f"{database.own.path}_limited"[-60:]
        database.run(
            f'create role "{role}" login',
            "create table teams (id integer primary key)",
            "create table bills (id integer primary key, team integer references teams (id) on delete cascade)",
            "create policy none on bills using (false)",
            "alter table bills enable row level security",
            f'grant all on teams, bills to "{role}"',
        )
        try:
            url = servers.text(structs.replace(database.own, user=role, password=None))
            options = ("--url", f"main={url}", "--yes")
            answer("data", "add", "teams", "id=1", *options)
            database.run("insert into bills values (1, 1)")
            number = str(answer("audit", "list")["data"]["items"][0]["operation"])
            assert "row-level security" in answer("undo", number, *options, status=6)["error"]["message"]
            assert database.rows("select id, team from bills") == [(1, 1)]
        finally:
            database.run(f'drop owned by "{role}"', f'drop role "{role}"')


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
@pytest.mark.parametrize("action", ["", "on delete restrict"])
def test_rows_of_the_same_table_that_still_refer_to_the_rows_refuse_the_plan(
    answer, tmp_path, engine, action
) -> None:
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            f"create table people (id integer primary key, boss integer, foreign key (boss) references people (id) {action})",
            "insert into people values (1, null), (2, 1), (3, 2), (4, null), (5, 5)",
        )
        options = ("--url", f"main={database.url}")
        error = answer("data", "delete", "people", "1", "--dry-run", *options, status=6)["error"]
        assert "1 row of people still reference the rows" in error["message"]
        answer("data", "delete", "people", "--filter", "id=2", "--dry-run", *options, status=6)
        answer("data", "delete", "people", "--filter", "id>1", "--dry-run", *options)
        for key in ("3", "4"):
            answer("data", "delete", "people", key, "--yes", *options)
        assert database.rows("select id from people order by id") == [(1,), (2,), (5,)]


def test_rows_that_refer_by_the_collation_of_the_key_are_planned_recorded_and_restored(
    answer, tmp_path, monkeypatch
) -> None:
    """SQLite compares the values of a foreign key as the column does to which it refers."""
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with empty_database("sqlite", tmp_path / "app.db") as database:
        database.run(
            "create table people (id integer primary key, name text collate nocase not null unique, note text)",
            "create table notes (id integer primary key, person text references people (name) on delete cascade on update cascade)",
            "insert into people values (1, 'Ana', 'a'), (2, 'bo', 'b')",
            "insert into notes values (1, 'ana'), (2, 'Ana'), (3, 'bo')",
        )
        before = database.content()
        options = ("--url", f"main={database.url}", "--yes")
        plan = answer("data", "set", "people", "1", "name=eve", *options, "--dry-run")["data"]["plan"]
        assert plan["rows"] == {"people": 1, "notes": 2}
        rows = answer("data", "delete", "people", "1", *options)["data"]["rows"]
        assert rows == {"people": 1, "notes": 2}
        number = str(answer("audit", "list")["data"]["items"][0]["operation"])
        answer("undo", number, *options)
        assert database.content() == before
