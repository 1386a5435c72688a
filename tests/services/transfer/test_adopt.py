"""A destination whose schema the app's own migrations made."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.services.transfer.test_json import run_sql

SQLITE = """
create table django_migrations (id integer primary key autoincrement, app varchar(255) not null, name varchar(255) not null,
  applied datetime not null);
create table kind (id integer primary key autoincrement, model varchar(100) not null unique);
create table permission (id integer primary key autoincrement, kind_id integer not null references kind (id), code varchar(100) not null,
  unique (kind_id, code));
create table item (id integer primary key autoincrement, kind_id integer not null references kind (id), name text, at datetime);
insert into django_migrations values (1, 'shop', '0001_initial', '2026-01-02 03:04:05'), (2, 'shop', '0002_more', '2026-01-02 03:04:06');
insert into kind values (4, 'session'), (7, 'user'), (9, 'own');
insert into permission values (1, 7, 'add'), (2, 4, 'add'), (3, 4, 'own');
insert into item values (5, 7, 'a', '2026-01-02 03:04:05'), (6, 4, 'b', null);
"""
POSTGRESQL = [
    "create table django_migrations (id bigserial primary key, app varchar(255) not null, name varchar(255) not null, applied timestamptz not null)",
    "create table kind (id serial primary key, model varchar(100) not null unique)",
    (
        "create table permission (id serial primary key, kind_id int not null references kind (id) deferrable initially deferred, code varchar(100) not null,"
        " unique (kind_id, code))"
    ),
    "create table item (id serial primary key, kind_id int not null references kind (id) deferrable initially deferred, name text, at timestamptz)",
    "create index item_name on item (name)",
    "insert into django_migrations (app, name, applied) values ('shop', '0001_initial', now()), ('shop', '0002_more', now())",
    "insert into kind (model) values ('user'), ('session')",
    "insert into permission (kind_id, code) values (1, 'add'), (2, 'add')",
]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SQLITE)
    return path


@pytest.fixture
def transfer(answer, source):
    return lambda *words, **options: answer("--url", f"main={source}", "transfer", *words, **options)


@pytest.fixture
def destination(databases, tmp_path):
    url = databases("postgresql", tmp_path)
    run_sql(url, *POSTGRESQL)
    return url


NARROWER = "integer of 64 bits to integer of 32 bits"
INDEXES = "select indexdef from pg_indexes where schemaname = current_schema() order by 1"


def test_rows_are_copied_into_the_tables_of_the_app(transfer, destination):
    before = run_sql(destination, INDEXES)
    plan = transfer("plan", "--to", destination)["data"]
    assert (plan["schema"], plan["problems"], plan["excluded"]) == ("destination", [], ["django_migrations"])
    assert {table["table"]: table["replaced"] for table in plan["tables"]} == {
        "kind": 2,
        "permission": 2,
        "item": 0,
    }
    assert {table["table"]: table["conversions"] for table in plan["tables"]} == {
        "kind": {"id": NARROWER},
        "permission": {"id": NARROWER, "kind_id": NARROWER},
        "item": {
            "id": NARROWER,
            "kind_id": NARROWER,
            "at": "timestamp without zone to timestamp with zone",
        },
    }
    steps = transfer("run", "--to", destination, "--dry-run")["data"]["plan"]["steps"]
    assert "replace 2 rows of kind, which the source has, too" in steps
    transfer("run", "--to", destination)
    assert transfer("verify", "--to", destination)["data"]["equal"] is True
    transfer("switch", "--to", destination, "--yes")
    assert run_sql(destination, "select id, model from kind order by id") == [
        (4, "session"),
        (7, "user"),
        (9, "own"),
    ]
    assert run_sql(destination, "select id, kind_id, code from permission order by id") == [
        (1, 7, "add"),
        (2, 4, "add"),
        (3, 4, "own"),
    ]
    assert run_sql(
        destination, "select count(*), bool_and(applied > now() - interval '1 hour') from django_migrations"
    ) == [(2, True)]
    assert run_sql(destination, "insert into item (kind_id) values (9) returning id") == [(7,)]
    run_sql(destination, "delete from item where id = 7")
    assert run_sql(destination, INDEXES) == before
    assert run_sql(destination, "select count(*) from pg_constraint where contype = 'f' and condeferred") == [
        (2,)
    ]
    # nothing that the app has written since is lost
    run_sql(destination, "update item set name = 'new' where id = 5")
    assert transfer("run", "--to", destination, status=6)["error"]["code"] == "values-unstorable"
    assert run_sql(destination, "select name from item where id = 5") == [("new",)]


@pytest.mark.parametrize(
    ("change", "table", "column"),
    [
        ("insert into kind (model) values ('other')", "kind", "id, model"),
        ("insert into item (kind_id, name) values (1, 'x')", "item", "id, kind_id, name, at"),
        ("insert into django_migrations (app, name, applied) values ('shop', '0003_newer', now())", "django_migrations", "ledger"),
        ("delete from django_migrations where name = '0002_more'", "django_migrations", "ledger"),
        ("alter table item add owner text not null", "item.owner", "column"),
        ("alter table item add foreign key (id) references permission (id) not valid", "item", "id"),
    ],
)  # fmt: skip
def test_destination_that_does_not_fit_is_refused_and_unchanged(transfer, destination, change, table, column):
    run_sql(destination, change)
    before = [
        run_sql(destination, f"select * from {name} order by 1") for name in ("kind", "permission", "item")
    ]
    (problem,) = transfer("plan", "--to", destination, status=4)["data"]["problems"]
    assert (problem["table"], problem["column"]) == (table, column)
    assert transfer("run", "--to", destination, status=6)["error"]["code"] == "values-unstorable"
    after = [
        run_sql(destination, f"select * from {name} order by 1") for name in ("kind", "permission", "item")
    ]
    assert after == before
    assert run_sql(destination, "select to_regclass('dbctl_transfer') is null") == [(True,)]


def test_destination_without_a_table_of_the_source_is_refused(transfer, destination):
    run_sql(destination, "drop table item")
    error = transfer("run", "--to", destination, status=4)["error"]
    assert (error["code"], "--derive" in error["hint"]) == ("transfer-schema", False)
    run_sql(destination, "create table item (id int)", "insert into item values (1)")
    transfer("run", "--to", destination, status=4)
    assert run_sql(destination, "select * from item") == [(1,)]


def test_rows_of_other_tables_and_options_for_the_schema_are_refused(transfer, destination):
    assert (
        transfer("run", "--derive", "--to", destination, status=6)["error"]["code"] == "transfer-destination"
    )
    run_sql(destination, "create table other (id int)", "insert into other values (1)")
    error = transfer("plan", "--to", destination, status=6)["error"]
    assert (error["code"], "other" in error["message"]) == ("transfer-destination", True)
    run_sql(destination, "delete from other")
    transfer("run", "--to", destination)


@pytest.mark.parametrize("stop", ["create", "copy", "finish"])
def test_interrupted_copy_continues_and_keeps_the_tables(transfer, monkeypatch, destination, stop):
    before = run_sql(destination, INDEXES)

    class KilledError(Exception):
        pass

    def fail(*_arguments):
        raise KilledError

    name = {"create": "run._prepare_destination", "copy": "run.copy_table", "finish": "run.finish_copy"}[stop]
    monkeypatch.setattr(f"dbctl.services.transfer.{name}", fail)
    transfer("run", "--to", destination, status=1)
    monkeypatch.undo()
    assert transfer("plan", "--to", destination)["data"]["schema"] == "destination"
    transfer("run", "--to", destination)
    transfer("switch", "--to", destination, "--yes")
    assert run_sql(destination, INDEXES) == before


def test_verify_compares_the_ledger(transfer, destination):
    transfer("run", "--to", destination)
    run_sql(destination, "delete from django_migrations where name = '0002_more'")
    result = transfer("verify", "--to", destination, status=4)["data"]
    assert [(part["kind"], part["name"], part["difference"]) for part in result["objects"]] == [
        ("ledger", "django_migrations", "only the source has shop/0002_more")
    ]
    assert transfer("switch", "--to", destination, "--yes", status=4)["error"]["code"] == "transfer-ledger"
