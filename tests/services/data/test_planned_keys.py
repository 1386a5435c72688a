"""A dry run of ``data set`` and ``data add`` refuses the keys that the database refuses."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from msgspec import structs

from tests import servers
from tests.databases import empty_database

TABLES = (
    "create table authors (id integer primary key, code varchar(9) unique)",
    "insert into authors values (1, 'a'), (2, 'b')",
    """create table books (id integer primary key, author integer, title varchar(20) not null, volume integer,
    part_of integer, unique (title, volume), foreign key (author) references authors (id),
    foreign key (part_of) references books (id))""",
    "insert into books values (1, 1, 'one', 1, null), (2, 1, 'one', 2, null)",
)
#: Words after ``data``, and the exit code.
CHANGES = (
    ("set books 1 author=9", 6),
    ("set books 1 part_of=9", 6),
    ("set books 1 volume=2", 6),
    ("set authors 1 code=b", 6),
    ("set books --filter title=one author=9", 6),
    ("set books --filter title=one volume=2", 6),
    ("set books --filter volume=1 volume=2", 6),
    ("set books --filter title=one title=two volume=2", 6),
    ("set authors --filter id<3 code=c", 6),
    ("set authors --filter id=2 code=a", 6),
    ("add books id=3 title=three author=9", 6),
    ("add books id=1 title=three", 6),
    ("add books id=3 title=one volume=1", 6),
    ("add books id=3 title=three part_of=4", 6),
    ("set books 1 author=2 part_of=1 volume=3", 0),
    ("set books --filter title=one author=2", 0),
    ("add books id=3 title=three volume=1 part_of=3 author=1", 0),
    ("add books id=4 title=one", 0),
    ("set books --filter title=one title=two", 0),
    ("set books --filter volume=2 volume=4", 0),
    ("set authors --filter id=2 code=c", 0),
)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "app.db")) as database:
            database.executescript(";".join(TABLES))
        yield str(tmp_path / "app.db")
    elif request.param == "postgresql":
        with servers.postgresql_database(encoding="UTF8") as server:
            with closing(servers.connection(server)) as connection:
                connection.execute(";".join(TABLES))
            yield servers.text(server)
    else:
        with servers.mysql_database() as server:
            with closing(servers.mysql_connection(server)) as connection, connection.cursor() as cursor:
                for sql in TABLES:
                    cursor.execute(sql)
            yield servers.text(server)


def test_dry_run_has_the_exit_code_of_the_command(url, answer):
    for words, status in CHANGES:
        for option in ("--dry-run", "--yes"):
            error = answer("data", *words.split(), option, "--url", f"main={url}", status=status)["error"]
            assert (error or {}).get("code") in (None, "constraint", "already-exists"), words


@pytest.mark.parametrize(
    ("engine", "part"),
    [
        ("sqlite", "lower(title)"),
        ("sqlite", "title collate nocase"),
        ("postgresql", "lower(title)"),
        ("mysql", "title(1)"),
    ],
)
def test_unique_index_with_more_than_columns_permits_a_plan(answer, tmp_path, engine, part):
    with empty_database(engine, tmp_path / "app.db") as database:
        database.run(
            "create table books (id integer primary key, shelf integer, title varchar(9))",
            f"create unique index books_title on books (shelf, {part})",
            "insert into books values (1, 1, 'A'), (2, 1, 'b')",
        )
        for option in ("--dry-run", "--yes"):
            answer(
                "data", "set", "books", "--filter", "id<3", "shelf=2", option, "--url", f"main={database.url}"
            )
        assert database.rows("select shelf from books") == [(2,), (2,)]


def test_reference_to_a_row_that_a_policy_hides_is_not_refused(answer):
    with servers.postgresql_database(encoding="UTF8") as server:
        role = f"{server.path}_limited"[-60:]
        with closing(servers.connection(server)) as connection:
            connection.execute(
                f"""create role "{role}" login; {";".join(TABLES)}; grant all on authors, books to "{role}";
                create policy none on authors using (false); alter table authors enable row level security"""
            )
            url = servers.text(structs.replace(server, user=role, password=None))
            try:
                for option in ("--dry-run", "--yes"):
                    answer(
                        "data",
                        "add",
                        "books",
                        "id=3",
                        "title=three",
                        "author=1",
                        option,
                        "--url",
                        f"main={url}",
                    )
            finally:
                connection.execute(f'drop owned by "{role}"; drop role "{role}"')
