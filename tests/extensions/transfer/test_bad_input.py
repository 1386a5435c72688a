"""Transfers that are refused, and what they leave unchanged."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from dbctl.url import parse_url
from tests import servers
from tests.extensions.transfer.conftest import create_source


def change(path, *statements):
    with closing(sqlite3.connect(path)) as db:
        for sql in statements:
            db.execute(sql)
        db.commit()


def list_tables(url_text):
    """Return the tables of the schema or database of an address."""
    url = parse_url(url_text)
    connect = servers.mysql_connection if url.engine == "mysql" else servers.connection
    with closing(connect(url)) as own, closing(own.cursor()) as cursor:
        place = "database()" if url.engine == "mysql" else "current_schema()"
        cursor.execute(f"select table_name from information_schema.tables where table_schema = {place}")
        return sorted(name for (name,) in cursor.fetchall())


@pytest.fixture
def start(answer, source):
    return lambda *words, **options: answer("--url", f"main={source}", "transfer", *words, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "sql"),
    [
        ("is_admin", "update person set is_admin = 'perhaps' where id = 'p0039'"),
        ("created_at", "update person set created_at = 'yesterday' where id = 'p0039'"),
        ("born", "update person set born = '2026-02-30' where id = 'p0039'"),
        ("height", "update person set height = 'tall' where id = 'p0039'"),
        ("mail", f"update person set mail = '{'x' * 120}' where id = 'p0039'"),
        ("note", "update person set note = cast(x'ff' as text) where id = 'p0039'"),
        ("note", "update person set note = 'a' || char(0) where id = 'p0039'"),
    ],
)
def test_value_that_does_not_fit_is_reported_before_any_row_is_copied(
    start, tmp_path, databases, source, column, sql
):
    change(source, sql)
    destination = databases("postgresql", tmp_path)
    problems = start("plan", "--to", destination, status=4)["data"]["problems"]
    assert [(problem["table"], problem["column"], problem["rows"]) for problem in problems] == [
        ("person", column, 1)
    ]
    assert problems[0]["keys"] == [{"id": "p0039"}]
    error = start("run", "--to", destination, status=6)["error"]
    assert error["code"] == "values-unstorable"
    assert "p0039" in error["message"]
    assert list_tables(destination) == []
    change(
        source,
        f"update person set {column} = (select {column} from person where id = 'p0001') || '' where id = 'p0039' and '{column}' <> 'mail'",
        "update person set mail = 'fits' where id = 'p0039'",
    )
    start("run", "--to", destination)
    assert start("verify", "--to", destination)["data"]["equal"] is True


def test_orphaned_rows_are_reported(start, tmp_path, databases, source):
    change(source, "update person set chief = 'missing' where id = 'p0039'")
    destination = databases("postgresql", tmp_path)
    (problem,) = start("plan", "--to", destination, status=4)["data"]["problems"]
    assert (problem["table"], problem["column"], problem["rows"]) == ("person", "chief", 1)
    assert start("run", "--to", destination, status=6)["error"]["code"] == "values-unstorable"


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_destination_with_rows_of_another_database_is_refused(start, answer, tmp_path, databases, engine):
    destination = databases(engine, tmp_path)
    other = create_source(tmp_path / "other.db", people=3)
    answer("--url", f"main={other}", "transfer", "run", "--to", destination)
    answer("--url", f"main={other}", "transfer", "switch", "--to", destination, "--yes")
    if engine == "sqlite":  # the schema is copied, so that no table may exist
        for command in ("plan", "run"):
            assert start(command, "--to", destination, status=6)["error"]["code"] == "transfer-destination"
    else:  # tables that the app may have made are filled, but no row of them is replaced
        problems = start("plan", "--to", destination, status=4)["data"]["problems"]
        assert [(problem["table"], problem["rows"]) for problem in problems] == [("person", 1)]
        assert start("run", "--to", destination, status=6)["error"]["code"] == "values-unstorable"
    assert (
        answer("--url", f"main={other}", "transfer", "verify", "--to", destination)["data"]["equal"] is True
    )


def test_unfinished_transfer_of_another_database_is_refused(start, answer, tmp_path, databases):
    destination = databases("sqlite", tmp_path)
    other = create_source(tmp_path / "other.db", people=3)
    answer("--url", f"main={other}", "transfer", "run", "--to", destination)
    for command in (("run",), ("switch", "--yes")):
        assert start(*command, "--to", destination, status=6)["error"]["code"] == "transfer-other"


def test_source_as_destination_is_refused(start, tmp_path, source):
    (tmp_path / "link.db").symlink_to(source)
    for path in (source, tmp_path / "link.db"):
        assert start("run", "--to", str(path), status=6)["error"]["code"] == "transfer-same"


@pytest.mark.slow
def test_second_transfer_at_the_same_time_is_refused(start, tmp_path, databases):
    from dbctl.engines import registry

    destination = databases("postgresql", tmp_path)
    url = parse_url(destination)
    with (
        closing(registry.load_engine("postgresql").open_for_writing(url, "x/y", timeout=1)) as db,
        db.lock("test"),
    ):
        assert start("run", "--to", destination, "--timeout", "0", status=11)["error"]["code"] == "busy"
    start("run", "--to", destination)


def test_missing_databases(start, answer, tmp_path):
    missing = tmp_path / "missing.db"
    error = answer("--url", f"main={missing}", "transfer", "run", "--to", str(tmp_path / "x.db"), status=10)[
        "error"
    ]
    assert error["code"] == "database-missing"
    assert not (tmp_path / "x.db").exists()
    assert start("verify", "--to", str(missing), status=10)["error"]["code"] == "transfer-destination-missing"


@pytest.mark.parametrize(
    ("to", "status"),
    [
        ("", 2),
        ("nonsense://x", 2),
        ("lancedb:///tmp/x", 2),
        ("postgresql://127.0.0.1:1/x", 10),
        ("/dev/null/x.db", 10),
    ],
)
def test_bad_destinations(start, to, status):
    start("run", "--to", to, status=status)


def test_source_that_lacks_migrations_is_refused(answer, tmp_path, databases):
    answer("demo", "promptvault", str(tmp_path / "app"))
    database = next((tmp_path / "app").rglob("promptvault.db"))
    change(
        database,
        "delete from _prisma_migrations where migration_name = '20250828120646_add_public_sharing_fields'",
    )
    config = ("--config", str(tmp_path / "app" / "dbctl.toml"))
    destination = databases("postgresql", tmp_path)
    error = answer(*config, "transfer", "run", "--to", destination, status=4)["error"]
    assert error["code"] == "transfer-source-pending"


def test_dry_run_changes_nothing(start, tmp_path, databases):
    destination = databases("sqlite", tmp_path)
    plan = start("run", "--to", destination, "--dry-run")["data"]["plan"]
    assert plan["rows"] == {"room": 5, "person": 40, "member": 40, "event": 16}
    assert not (tmp_path / "destination.db").exists()
    start("switch", "--to", destination, "--dry-run", status=5)


def test_options_that_exclude_each_other(start, tmp_path):
    start("run", "--to", str(tmp_path / "x.db"), "--derive", "--variant", "x", status=2)
