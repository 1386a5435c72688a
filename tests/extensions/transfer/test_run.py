"""Transfers between all engines."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from jsonschema import Draft202012Validator

from dbctl.url import parse_url
from tests import servers
from tests.extensions.transfer.conftest import digests, read_rows
from tools import reference

SCHEMAS = json.loads(reference.SCHEMAS.read_text(encoding="utf-8"))
ENGINES = ["sqlite", "postgresql", "mysql"]
TABLES = ["room", "person", "member", "event"]


def transfer(answer, source, destination, **options):
    """Run a transfer and return its digests."""
    return digests(answer("--url", f"main={source}", "transfer", "run", "--to", destination, **options))


def switch(answer, source, destination):
    result = answer("--url", f"main={source}", "transfer", "switch", "--to", destination, "--yes")
    Draft202012Validator({**SCHEMAS["answers"][result["schema"]], "$defs": SCHEMAS["$defs"]}).validate(result)
    return result


def count_rows(url_text, table):
    """Count rows with the client of the engine."""
    url = parse_url(url_text)
    connect = servers.mysql_connection if url.engine == "mysql" else servers.connection
    with closing(connect(url)) as own, closing(own.cursor()) as cursor:
        cursor.execute(f"select count(*) from {table}")
        return cursor.fetchone()[0]


def without_json(digests):
    """Return digests without that of a table with JSON, whose text passes unchanged except into JSONB."""
    return {name: digest for name, digest in digests.items() if name != "room"}


@pytest.mark.slow
@pytest.mark.parametrize("engines", [["postgresql", "mysql"], ["mysql", "postgresql"]], ids=" ".join)
def test_content_stays_equal_through_all_engines_and_back(answer, tmp_path, databases, source, engines):
    """The two orders have each direction."""
    first, second = (databases(engine, tmp_path) for engine in engines)
    last = str(tmp_path / "back.db")
    expected = transfer(answer, source, first)
    assert {name: rows for name, (rows, _) in expected.items()} == {
        "room": 5,
        "person": 40,
        "member": 40,
        "event": 16,
    }
    switch(answer, source, first)
    assert without_json(transfer(answer, first, second)) == without_json(expected)
    switch(answer, first, second)
    assert without_json(transfer(answer, second, last)) == without_json(expected)
    switch(answer, second, last)
    for url in (first, second):
        assert [count_rows(url, table) for table in TABLES] == [5, 40, 40, 16]
    for column in ("id", "mail", "chief", "room", "is_admin", "height", "photo", "born", "note"):
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(last)) as new:
            sql = f"select {column} from person order by id"
            assert old.execute(sql).fetchall() == new.execute(sql).fetchall()


@pytest.mark.parametrize("engine", ENGINES)
def test_new_rows_get_keys_after_the_copied_rows(answer, tmp_path, databases, source, engine):
    destination = databases(engine, tmp_path)
    transfer(answer, source, destination)
    result = answer("--url", f"main={destination}", "data", "add", "room", "name=new")
    assert int(result["data"]["key"]["id"]) > 35


@pytest.mark.parametrize("engine", ENGINES)
def test_foreign_keys_and_unique_indexes_hold_in_the_destination(answer, tmp_path, databases, source, engine):
    destination = databases(engine, tmp_path)
    transfer(answer, source, destination)
    main = ("--url", f"main={destination}", "data", "add")
    answer(*main, "member", "person=nobody", "room=7", status=6)
    answer(*main, "person", "id=x", "mail=p1@example.org", status=6)


def test_source_has_its_rows_and_schema_after_unlocking(answer, tmp_path, databases, source):
    def dump():
        with closing(sqlite3.connect(source)) as db:
            return list(db.iterdump())

    before, content = dump(), source.read_bytes()
    destination = databases("postgresql", tmp_path)
    transfer(answer, source, destination)
    assert source.read_bytes() == content
    switch(answer, source, destination)
    assert dump() != before
    answer("--url", f"main={source}", "transfer", "switch", "--unlock")
    assert dump() == before


def test_no_state_remains_after_the_switch(answer, tmp_path, databases, source):
    destination = databases("sqlite", tmp_path)
    transfer(answer, source, destination)
    switch(answer, source, destination)
    with closing(sqlite3.connect(tmp_path / "destination.db")) as db:
        names = {name for (name,) in db.execute("select name from sqlite_master where type = 'table'")}
    assert names - {"sqlite_sequence"} == set(TABLES)


@pytest.mark.slow
def test_app_with_migrations_gets_the_schema_of_its_migrations(answer, tmp_path, databases):
    answer("demo", "promptvault", str(tmp_path / "app"))
    config = ("--config", str(tmp_path / "app" / "dbctl.toml"))
    profile = ("--profile", "promptvault")
    servers_of = [databases(engine, tmp_path) for engine in ("postgresql", "mysql")]
    last = tmp_path / "back.db"
    first = answer(*config, "transfer", "run", "--to", servers_of[0])
    assert first["data"]["schema"] == "migrations"
    answer(*config, "transfer", "switch", "--to", servers_of[0], "--yes")
    second = answer(*profile, "--url", f"main={servers_of[0]}", "transfer", "run", "--to", servers_of[1])
    answer(*profile, "--url", f"main={servers_of[0]}", "transfer", "switch", "--to", servers_of[1], "--yes")
    third = answer(*profile, "--url", f"main={servers_of[1]}", "transfer", "run", "--to", str(last))
    assert digests(first) == digests(second) == digests(third)
    original = next((tmp_path / "app").rglob("promptvault.db"))
    for table in ("User", "Prompt", "PromptTag", "Rating", "Settings"):
        assert read_rows(original, f'"{table}"') == read_rows(last, f'"{table}"')
    for url in servers_of:
        assert answer(*profile, "--url", f"main={url}", "users", "list")["data"]["total"] == 50
        assert answer(*profile, "--url", f"main={url}", "migrate", "drift")["data"]["findings"] == []


@pytest.mark.slow
def test_zero_dates_of_mysql_are_copied_to_sqlite_and_back_only(answer, tmp_path, databases):
    source, between = databases("mysql", tmp_path), str(tmp_path / "between.db")
    with closing(servers.mysql_connection(parse_url(source))) as own, own.cursor() as cursor:
        cursor.execute("set session sql_mode = ''")
        cursor.execute(
            "create table post (id bigint primary key, at datetime not null, day date, seen timestamp null)"
        )
        cursor.execute(
            "insert into post values (1, '0000-00-00 00:00:00', '2026-00-00', '0000-00-00 00:00:00'),"
            " (2, '2026-01-02 03:04:05', '0000-00-00', null)"
        )
        own.commit()
    transfer(answer, source, between)
    switch(answer, source, between)
    assert answer("--url", f"main={source}", "transfer", "verify", "--to", between)["data"]["equal"] is True
    back = databases("mysql", tmp_path)
    transfer(answer, between, back)
    with closing(servers.mysql_connection(parse_url(back))) as own, own.cursor() as cursor:
        cursor.execute("select id, left(at, 19), left(day, 10), left(seen, 19) from post order by id")
        assert cursor.fetchall() == (
            (1, "0000-00-00 00:00:00", "2026-00-00", "0000-00-00 00:00:00"),
            (2, "2026-01-02 03:04:05", "0000-00-00", None),
        )
    words = ("--url", f"main={source}", "transfer", "run", "--to", databases("postgresql", tmp_path))
    assert answer(*words, status=6)["error"]["code"] == "values-unstorable"


def test_shapes_and_vectors_of_mysql_are_copied_as_bytes(answer, tmp_path, databases):
    source, destination = databases("mysql", tmp_path), str(tmp_path / "to.db")
    server = servers.mysql_server()
    parse_vector = "vec_fromtext" if server.is_mariadb else "string_to_vector"
    has_vectors = server.version >= ((11, 7, 0) if server.is_mariadb else (9, 0, 0))
    with closing(servers.mysql_connection(parse_url(source))) as own, own.cursor() as cursor:
        cursor.execute("create table place (id int primary key, spot point not null, area geometry)")
        cursor.execute(
            "insert into place values (1, point(1.1, -2), st_geomfromtext('LINESTRING(0 0,1 1)')), (2, point(0, 0), null)"
        )
        if has_vectors:
            cursor.execute("alter table place add feature vector(2)")
            cursor.execute(f"update place set feature = {parse_vector}('[1.5, -2]')")
        columns = ["spot", "area", *(["feature"] if has_vectors else [])]
        cursor.execute(f"select {', '.join(f'hex({name})' for name in columns)} from place order by id")
        expected = [tuple(value and bytes.fromhex(value) for value in row) for row in cursor.fetchall()]
        own.commit()
    transfer(answer, source, destination)
    with closing(sqlite3.connect(destination)) as copy:
        assert copy.execute(f"select {', '.join(columns)} from place order by id").fetchall() == expected
