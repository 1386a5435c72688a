"""Samples: which rows remain, on every engine: references, trees, cycles, cleared references, links between databases."""

from __future__ import annotations

import re

import pytest

from dbctl.errors.databases import ColumnMissingError, TableMissingError
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.extensions.copies.sample import Sampling, parse_sample
from dbctl.services.app.session import Selection, Session
from dbctl.spec import Write
from tests.databases import File, empty_database

KEY = b"0123456789abcdef"
TABLES = (
    "create table people (id integer primary key, name varchar(20) unique not null, joined {time}, boss integer references people (id), team integer{team})",
    "create table orders (id integer primary key, person integer not null references people (id), total integer)",
    "create table items (id integer primary key, order_id integer not null references orders (id) on delete cascade, packer integer references people (id) on delete set null)",
    "create table notes (a integer, b integer, item integer references items (id), primary key (a, b))",
    "create table places (id integer primary key, parent integer references places (id) on delete cascade, owner integer references people (id))",
    "create table teams (id integer primary key, head integer references people (id), team integer references teams (id))",
    "create table colors (id integer primary key)",
)
TIMES = {"sqlite": "datetime", "postgresql": "timestamptz", "mysql": "datetime"}
PEOPLE = 40


@pytest.fixture(params=TIMES)
def database(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with empty_database(request.param, tmp_path / "app.db") as database:
        fill(database)
        (tmp_path / "dbctl.toml").write_text(f'[apps.a]\nprofile = "plain"\ndatabases = "{database.url}"\n')
        yield database


def fill(database):
    """Create people, each with two orders of three items; every tenth has no boss, and every item has another packer."""
    for statement in TABLES:
        team = " references teams (id)" if database.engine == "sqlite" else ""
        sql = statement.format(time=TIMES[database.engine], team=team)
        database.run(move_references(sql) if database.engine == "mysql" else sql)
    people = ", ".join(
        f"({n}, 'p{n}', '{2000 + n}-01-01 00:00:00', {'null' if n % 10 == 0 else n - 1}, null)"
        for n in range(PEOPLE)
    )
    orders = ", ".join(f"({n}, {n % PEOPLE}, {n})" for n in range(2 * PEOPLE))
    items = ", ".join(f"({n}, {n // 3}, {(7 * n) % PEOPLE if n % 2 else 'null'})" for n in range(6 * PEOPLE))
    notes = ", ".join(f"({n}, {n % 3}, {n if n % 4 else 'null'})" for n in range(6 * PEOPLE))
    places = ", ".join(
        f"({n}, {n // 2 if n else 'null'}, {n if n % 5 == 0 else 'null'})" for n in range(PEOPLE)
    )
    for table, rows in (
        ("people", people),
        ("orders", orders),
        ("items", items),
        ("notes", notes),
        ("places", places),
    ):
        database.run(f"insert into {table} values {rows}")
    database.run(
        "insert into colors values (1), (2)",
        "insert into teams values (0, 0, null), (1, 10, 0), (2, 20, null), (3, 30, 2)",
        "update people set team = floor(id / 10) where mod(id, 2) = 0"
        if database.engine != "sqlite"
        else "update people set team = id / 10 where id % 2 = 0",
    )
    if database.engine != "sqlite":
        database.run("alter table people add foreign key (team) references teams (id)")


def move_references(sql):
    """Return a statement in which keys are constraints of the table: MySQL ignores those of columns."""
    keys = re.findall(r"(\w+) integer(?: not null)? references (\w+) \(id\)( on delete \w+(?: null)?)?", sql)
    plain = re.sub(r" references \w+ \(id\)(?: on delete (?:cascade|set null))?", "", sql)
    constraints = "".join(
        f", foreign key ({column}) references {table} (id){action}" for column, table, action in keys
    )
    return plain[:-1] + constraints + ")"


def reduce(*samples, databases=("main",), key=KEY):
    """Apply samples; return the counts of the plan."""
    write = Write(source="generated", audited=False)
    with Session(Selection(config="dbctl.toml"), timeout=1).open_app() as app:
        sampling = Sampling(app, databases, list(map(parse_sample, samples)), key)
        for name in databases:
            with app.writer(name, write) as writer:
                sampling.apply(name, writer)
        return sampling.tables


def count_rows(database):
    return {name: database.rows(f"select count(*) from {name}")[0][0] for name in sorted(database.tables())}


def assert_consistent(database):
    """Check that every reference has its row, without dbctl."""
    for table, column, parent in (
        ("people", "boss", "people"),
        ("orders", "person", "people"),
        ("items", "order_id", "orders"),
        ("items", "packer", "people"),
        ("notes", "item", "items"),
        ("places", "parent", "places"),
        ("places", "owner", "people"),
        ("teams", "head", "people"),
        ("teams", "team", "teams"),
        ("people", "team", "teams"),
    ):
        orphans = f"{column} is not null and {column} not in (select id from {parent})"
        assert database.rows(f"select count(*) from {table} where {orphans}") == [(0,)], (table, column)


def test_condition_leaves_dependent_rows_out(database):
    before = count_rows(database)
    counts = reduce("orders:total >= 60")
    after = count_rows(database)
    assert after == {**before, "orders": 20, "items": 60, "notes": after["notes"]}
    assert {row[0] for row in database.rows("select total from orders")} == set(range(60, 80))
    assert after["notes"] == sum(1 for n in range(240) if n % 4 == 0 or n // 3 >= 60)
    assert_consistent(database)
    assert {name.removeprefix("main."): count.rows for name, count in counts.items()} == {
        name: after[name] for name in ("orders", "items", "notes")
    }
    assert {name.removeprefix("main."): count.left_out for name, count in counts.items()} == {
        name: before[name] - after[name] for name in ("orders", "items", "notes")
    }


def test_references_that_the_schema_clears_are_cleared(database):
    counts = reduce("people:id < 20")
    assert_consistent(database)
    assert {row[0] for row in database.rows("select id from people")} == set(range(20))
    orders = {row[0] for row in database.rows("select id from orders")}
    assert orders == {n for n in range(80) if n % PEOPLE < 20}
    items = dict(database.rows("select id, packer from items"))
    assert items == {
        n: (7 * n) % PEOPLE if n % 2 and (7 * n) % PEOPLE < 20 else None
        for n in range(240)
        if n // 3 in orders
    }
    cleared = sum(1 for n in items if n % 2 and (7 * n) % PEOPLE >= 20)
    assert counts["main.items"].cleared == cleared > 0


def test_rows_below_in_a_tree_are_left_out(database):
    reduce("places:id != 3")
    left_out, pending = set(), [3]
    while pending:
        place = pending.pop()
        left_out.add(place)
        pending += [n for n in (2 * place, 2 * place + 1) if n < PEOPLE]
    assert {row[0] for row in database.rows("select id from places")} == set(range(PEOPLE)) - left_out
    assert_consistent(database)


def test_share_depends_on_the_key_alone(database):
    database.run("create table copies (id integer primary key, name varchar(20))")
    rows = ", ".join(f"({n}, 'x')" for n in range(2000))
    selected = []
    for key in (KEY, KEY, KEY[::-1]):
        database.run("delete from copies", f"insert into copies values {rows}")
        reduce("copies:20%", key=key)
        selected.append({row[0] for row in database.rows("select id from copies")})
    assert selected[0] == selected[1] != selected[2]
    assert all(300 < len(ids) < 500 for ids in selected)
    reduce("copies:80%")
    assert {row[0] for row in database.rows("select id from copies")} <= selected[2]


def test_share_of_people(database):
    database.run("update people set boss = null, team = null")
    reduce("people:30%")
    assert_consistent(database)
    assert 0 < count_rows(database)["people"] < PEOPLE


def test_several_samples_and_all_or_no_rows(database):
    before = count_rows(database)
    counts = reduce("colors:100%", "orders:total < 40", "people:id >= 10")
    assert_consistent(database)
    after = count_rows(database)
    assert after["colors"] == before["colors"]
    assert {name: count.rows for name, count in counts.items()} == {
        f"main.{name}": after[name] for name in before if f"main.{name}" in counts
    }
    assert {row[0] for row in database.rows("select id from orders")} == set(range(20, 40))
    reduce("people:0%")
    assert count_rows(database) == {
        **dict.fromkeys(before, 0),
        "colors": 2,
        "notes": 60,
        "places": count_rows(database)["places"],
    }


def test_times_before_now(database):
    database.run(
        "update people set boss = null, joined = '2001-01-01 00:00:00'",
        "update people set joined = '2099-01-01 00:00:00' where id < 3",
    )
    reduce("people:joined > -90d")
    assert {row[0] for row in database.rows("select id from people")} == {0, 1, 2}


def test_invalid_samples_are_refused(database):
    for sample, error in (
        ("peple:5%", TableMissingError),
        ("people:nam=x", ColumnMissingError),
        ("people:joined > -90x", UsageError),
        ("people:name > -90d", UsageError),
        ("notes:5%", NotSupportedError),
    ):
        with pytest.raises(error):
            reduce(sample)


@pytest.mark.parametrize(
    "text", ["", "people", "people:", ":5%", "people:101%", "people:-5%", "people:name", "people:5%%"]
)
def test_other_texts_are_refused(text):
    with pytest.raises(UsageError):
        parse_sample(text)


PROFILE = """schema = "dbctl.profile/1"
name = "pair"
title = "Pair"
[databases.main]
engines = ["sqlite"]
[databases.log]
engines = ["sqlite"]
[users]
table = "users"
login = ["name"]
id = { column = "id" }
cascade = ["posts.author", "comments.post -> posts.author"]
[users.fields]
name = "name"
[[link]]
name = "events of users"
database = "log"
table = "events"
column = "login"
to = "main"
targets = ["users.name", "aliases.name"]
"""


def test_links_and_references_of_the_profile(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main, log = File(tmp_path / "main.db"), File(tmp_path / "log.db")
    main.run(
        "create table users (id integer primary key, name text)",
        "create table posts (id integer primary key, author integer)",
        "create table aliases (id integer primary key, name text)",
        "insert into users values (1, 'ann'), (2, 'bo'), (3, 'cy')",
        "create table comments (id integer primary key, post integer)",
        "insert into posts values (1, 1), (2, 2), (3, 9)",
        "insert into comments values (1, 1), (2, 2), (3, 2)",
        "insert into aliases values (1, 'cy')",
    )
    log.run(
        "create table events (id integer primary key, login text)",
        "create table details (id integer primary key, event integer references events (id))",
        "insert into events values (1, 'ann'), (2, 'bo'), (3, 'cy'), (4, 'nobody')",
        "insert into details values (1, 1), (2, 2), (3, 4)",
    )
    (tmp_path / "pair.toml").write_text(PROFILE)
    (tmp_path / "dbctl.toml").write_text(
        '[apps.a]\nprofile = "pair.toml"\n[apps.a.databases]\nmain = "main.db"\nlog = "log.db"\n'
    )
    counts = reduce("users:id = 1", databases=("main", "log"))
    assert main.rows("select id from users") == [(1,)]
    assert main.rows("select id from posts") == [(1,), (3,)]
    assert log.rows("select id from events") == [(1,), (3,), (4,)]
    assert log.rows("select id from details") == [(1,), (3,)]
    assert {name: (count.rows, count.left_out) for name, count in counts.items()} == {
        "main.users": (1, 2),
        "main.posts": (2, 1),
        "main.comments": (1, 2),
        "log.events": (3, 1),
        "log.details": (2, 1),
    }
