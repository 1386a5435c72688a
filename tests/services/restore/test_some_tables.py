"""Dumps of single tables, of a database whose profile names no table: they replace none of its other tables."""

from __future__ import annotations

import os
import subprocess

import pytest

from dbctl.engines.mysql.backup import client_programs
from tests import servers
from tests.services.migrations import deployments

PEOPLE, OTHERS = "people", "others"


def dumped(base, place, *tables):
    """Write a dump of these tables, or of all, as the engine's own program does."""
    if base.engine == "sqlite":
        argv, environment = ["sqlite3", base.path, " ".join([".dump", *tables])], {}
    elif base.engine == "mysql":
        own, password = base.own, base.own.password.reveal() if base.own.password else ""
        program = client_programs.PROGRAMS[servers.mysql_server().product]["dump"]
        where = ["-h", own.host or "127.0.0.1", "-P", str(own.port or 3306), "-u", own.user]
        argv, environment = [program, *where, own.path, *tables], {"MYSQL_PWD": password} if password else {}
    else:
        own, form = base.own, ["-Fc"] if place.suffix == ".dump" else []
        where = ["-h", own.host or "127.0.0.1", "-p", str(own.port or 5432), "-U", own.user]
        words = [word for name in tables for word in ("-t", name)]
        argv, environment = [servers.client("pg_dump"), *where, *form, *words, own.path], {}
    with place.open("wb") as file:
        subprocess.run(argv, stdout=file, env={**os.environ, **environment}, check=True)
    return place


@pytest.fixture(params=[("sqlite", "sql"), ("postgresql", "sql"), ("postgresql", "dump"), ("mysql", "sql")])
def desk(request, tmp_path):
    """An app of two tables, and the ending of its dumps."""
    engine, ending = request.param
    with deployments.settled(engine, tmp_path / "app") as made:
        made.base.run(
            f"create table {PEOPLE} (id integer not null primary key, name varchar(20))",
            f"create table {OTHERS} (id integer not null primary key)",
            f"insert into {PEOPLE} values (1, 'Ana'), (2, 'Pip')",
            f"insert into {OTHERS} values (7), (8)",
        )
        yield made, ending


def test_a_dump_of_one_table_replaces_no_database_of_which_no_profile_tells(desk):
    app, ending = desk
    file = dumped(app.base, app.folder / f"some.{ending}", PEOPLE)
    app.base.run(f"delete from {PEOPLE} where id = 2")
    before = app.base.content()
    for words in ([], ["--dry-run"], ["--yes"]):
        error = app.dbctl("restore", "apply", "--file", file, *words, status=6)
        assert error["code"] == "tables-lost"
        assert OTHERS in error["message"]
        assert all(word in error["hint"] for word in ("--table", "--merge", "--to", "--replace"))
    adopted = app.dbctl("backup", "adopt", file)["adopted"][0]["id"]
    assert app.dbctl("restore", "apply", adopted, "--yes", status=6)["code"] == "tables-lost"
    assert app.base.content() == before
    app.dbctl("restore", "apply", "--file", file, "--table", PEOPLE, "--merge", "missing", "--yes")
    assert len(app.base.content()[PEOPLE]) == 2
    assert app.base.content()[OTHERS] == before[OTHERS]
    app.dbctl("restore", "apply", "--file", file, "--replace", "--yes")
    assert OTHERS not in app.base.content()
    app.dbctl("restore", "undo", "--yes")
    assert app.base.content()[OTHERS] == before[OTHERS]


def test_a_whole_dump_replaces_the_database_without_more_words(desk):
    app, ending = desk
    file, before = dumped(app.base, app.folder / f"all.{ending}"), app.base.content()
    app.base.run(f"delete from {PEOPLE}")
    app.dbctl("restore", "apply", "--file", file, "--yes")
    assert {name: app.base.content()[name] for name in before} == before
