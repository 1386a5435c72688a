"""A dump of single tables does not replace the other tables of a database without a profile."""

from __future__ import annotations

import os
import subprocess

import pytest

from dbctl.engines.mysql import dump_programs
from tests import servers
from tests.services.migrations import deployments

PEOPLE, OTHERS = "people", "others"


def write_dump(base, destination, *tables):
    """Write a dump of these tables, or of all, with the dump program of the engine."""
    if base.engine == "sqlite":
        argv, environment = ["sqlite3", base.path, " ".join([".dump", *tables])], {}
    elif base.engine == "mysql":
        url, password = base.own, base.own.password.reveal() if base.own.password else ""
        program = dump_programs.PROGRAMS[servers.mysql_server().product]["dump"]
        connection_options = ["-h", url.host or "127.0.0.1", "-P", str(url.port or 3306), "-u", url.user]
        argv, environment = (
            [program, *connection_options, url.path, *tables],
            {"MYSQL_PWD": password} if password else {},
        )
    else:
        url, form = base.own, ["-Fc"] if destination.suffix == ".dump" else []
        connection_options = ["-h", url.host or "127.0.0.1", "-p", str(url.port or 5432), "-U", url.user]
        options = [word for name in tables for word in ("-t", name)]
        argv, environment = [servers.client("pg_dump"), *connection_options, *form, *options, url.path], {}
    with destination.open("wb") as file:
        subprocess.run(argv, stdout=file, env={**os.environ, **environment}, check=True)
    return destination


@pytest.fixture(params=[("sqlite", "sql"), ("postgresql", "sql"), ("postgresql", "dump"), ("mysql", "sql")])
def desk(request, tmp_path):
    """An app with two tables, and the file extension of its dumps."""
    engine, ending = request.param
    with deployments.create_desk(engine, tmp_path / "app") as app:
        app.base.run(
            f"create table {PEOPLE} (id integer not null primary key, name varchar(20))",
            f"create table {OTHERS} (id integer not null primary key)",
            f"insert into {PEOPLE} values (1, 'Ana'), (2, 'Pip')",
            f"insert into {OTHERS} values (7), (8)",
        )
        yield app, ending


@pytest.mark.needs_extension("adopt")
def test_partial_dump_does_not_replace_a_database(desk):
    app, ending = desk
    file = write_dump(app.base, app.folder / f"some.{ending}", PEOPLE)
    app.base.run(f"delete from {PEOPLE} where id = 2")
    before = app.base.content()
    for arguments in ([], ["--dry-run"], ["--yes"]):
        error = app.dbctl("restore", "apply", "--file", file, *arguments, status=6)
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


@pytest.mark.needs_extension("adopt")
def test_complete_dump_replaces_the_database(desk):
    app, ending = desk
    file, before = write_dump(app.base, app.folder / f"all.{ending}"), app.base.content()
    app.base.run(f"delete from {PEOPLE}")
    app.dbctl("restore", "apply", "--file", file, "--yes")
    assert {name: app.base.content()[name] for name in before} == before
