"""A destination whose schema the app's own migrations made."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest

from dbctl.extensions.transfer import adopt
from tests.extensions.transfer.test_json import run_sql

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


@pytest.mark.slow
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
        "item": {"id": NARROWER, "kind_id": NARROWER, "at": "timestamp without zone to timestamp with zone"},
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
    for option in ("--dry-run", "--yes"):
        error = transfer("run", "--to", destination, option, status=6)["error"]
        assert error["code"] == "values-unstorable"
    assert run_sql(destination, "select name from item where id = 5") == [("new",)]


def test_triggers_of_mysql_keep_the_settings_of_their_creation(answer, databases, tmp_path):
    source, destination = tmp_path / "source.db", databases("mysql", tmp_path)
    run_sql(
        f"sqlite:///{source}",
        "create table item (id integer primary key, name text)",
        "insert into item values (1, 'a')",
    )
    run_sql(
        destination,
        "create table item (id bigint primary key, name varchar(40))",
        "set session sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT', character_set_client = latin1, collation_connection = latin1_swedish_ci",
        b"create trigger mark before update on \"item\" for each row set new.name = new.name || '\xe9\\\\'",
    )
    shown = "show create trigger mark"
    before = run_sql(destination, shown)[0][:5]
    answer("--url", f"main={source}", "transfer", "run", "--to", destination)
    assert run_sql(destination, shown)[0][:5] == before
    run_sql(destination, "update item set id = 1")
    assert run_sql(destination, "select name from item") == [("aé\\",)]


@pytest.mark.slow
def test_triggers_and_foreign_keys_of_the_app_keep_their_state(transfer, destination):
    run_sql(
        destination,
        "create function mark() returns trigger language plpgsql as $$begin new.name := 'marked'; return new; end$$",
        "create trigger mark before insert or update on item for each row execute function mark()",
        "alter table item disable trigger mark",
        "comment on trigger mark on item is 'disabled by the app'",
        "comment on constraint item_kind_id_fkey on item is 'to the kind'",
    )
    transfer("run", "--to", destination)
    states = "select tgenabled, obj_description(oid, 'pg_trigger') from pg_trigger where tgname = 'mark'"
    assert run_sql(destination, states) == [("D", "disabled by the app")]
    comment = (
        "select obj_description(oid, 'pg_constraint') from pg_constraint where conname = 'item_kind_id_fkey'"
    )
    assert run_sql(destination, comment) == [("to the kind",)]
    transfer("switch", "--to", destination, "--yes")
    assert run_sql(destination, states) == [("D", "disabled by the app")]


LACKED = "the source lacks it or has other values, and the copy would replace it"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "table", "column", "keys", "rows", "reason"),
    [
        ("insert into kind (model) values ('other')", "kind", "id, model", ["3"], 1, LACKED),
        ("insert into kind (model) select 'x' || n from generate_series(1, 7) n", "kind", "id, model", ["3", "4", "5", "6", "7"], 7, LACKED),
        ("insert into item (kind_id, name) values (1, 'x')", "item", "id, kind_id, name, at", ["1"], 1, LACKED),
        ("insert into item values (5, 1, 'a', '2026-01-02 03:04:05+00'), (6, 1, 'b', null)", "item", "id, kind_id, name, at", ["6"], 1, LACKED),
        (
            "insert into item (kind_id, name, at) values (1, 'a', '2026-01-02 03:04:05+00'), (1, 'a', '2026-01-02 03:04:05+00')",
            "item", "id, kind_id, name, at", ["1", "2"], 1, LACKED,
        ),
        (
            "insert into django_migrations (app, name, applied) values ('shop', '0003_newer', now())",
            "django_migrations", "ledger", [], 0, "only the destination has shop/0003_newer",
        ),
        (
            "delete from django_migrations where name = '0002_more'",
            "django_migrations", "ledger", [], 0, "only the source has shop/0002_more",
        ),
        (
            "alter table item add owner text not null",
            "item.owner", "column", [], 0, "the source has no such column, and it has neither NULL nor a default",
        ),
        (
            "alter table item add foreign key (id) references permission (id) not valid",
            "item", "id", [], 2, "no row of permission",
        ),
    ],
)  # fmt: skip
def test_destination_that_does_not_fit_is_refused_and_unchanged(
    transfer, destination, change, table, column, keys, rows, reason
):
    run_sql(destination, change)
    before = [
        run_sql(destination, f"select * from {name} order by 1") for name in ("kind", "permission", "item")
    ]
    (problem,) = transfer("plan", "--to", destination, status=4)["data"]["problems"]
    assert problem == {
        "table": table,
        "column": column,
        "keys": [{"id": key} for key in keys],
        "rows": rows,
        "reason": reason,
    }
    for option in ("--dry-run", "--yes"):
        error = transfer("run", "--to", destination, option, status=6)["error"]
        assert error["code"] == "values-unstorable"
    after = [
        run_sql(destination, f"select * from {name} order by 1") for name in ("kind", "permission", "item")
    ]
    assert after == before
    assert run_sql(destination, "select to_regclass('dbctl_transfer') is null") == [(True,)]


@pytest.mark.slow
def test_destination_with_more_than_the_source_is_filled(transfer, destination):
    run_sql(
        destination,
        "alter table item add owner text",
        "alter table item add label text not null default 'x'",
        "alter table item add size int not null generated always as (1) stored",
        "alter table item add number int not null generated always as identity",
        "create table aaa (id int not null)",
        "create view kinds as select * from kind",
        "alter table item alter kind_id drop not null",
        "insert into item (kind_id, name, at) values (1, 'a', '2026-01-02 03:04:05+00')",
    )
    assert transfer("plan", "--to", destination)["data"]["problems"] == []
    transfer("run", "--to", destination)
    assert run_sql(destination, "select id, kind_id, name, owner, label, size from item order by id") == [
        (5, 7, "a", None, "x", 1),
        (6, 4, "b", None, "x", 1),
    ]


def test_columns_of_every_table_are_compared(transfer, destination):
    run_sql(
        destination,
        "create table aaa (id int not null)",
        "delete from permission",
        "alter table permission add owner text not null",
    )
    problems = transfer("plan", "--to", destination, status=4)["data"]["problems"]
    assert [problem["table"] for problem in problems] == ["permission.owner"]


def test_tables_of_an_app_at_work_are_refused(transfer, monkeypatch, destination):
    monkeypatch.setattr(adopt, "MAX_EXISTING_ROWS", 2)
    assert transfer("plan", "--to", destination)["data"]["problems"] == []
    run_sql(destination, "insert into kind (model) values ('own')")
    error = transfer("plan", "--to", destination, status=6)["error"]
    assert error["code"] == "transfer-destination"
    assert re.findall(r"kind|permission|item", error["message"]) == ["kind"]


@pytest.mark.slow
@pytest.mark.parametrize("chief", ["references person", "references person (mail)"])
def test_rows_that_refer_to_rows_with_other_numbers(answer, databases, tmp_path, chief):
    """Both sides number the same rows in another order; texts that identify rows are compared as they are."""
    kind = "text" if "mail" in chief else "int"
    path, destination = tmp_path / "numbers.db", databases("postgresql", tmp_path)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            f"create table person (id integer primary key autoincrement, mail text unique, chief {kind} {chief});"
            "create table log (person int references person (id), text text);"
            "insert into person values (3, 'a', null), (8, 'b', null);"
            f"insert into person values (9, 'c', {repr('a') if kind == 'text' else 3});"
            "insert into log values (3, 'x'), (8, 'y'), (8, 'y'), (null, 'z');"
        )
    run_sql(
        destination,
        f"create table person (id serial primary key, mail text unique, chief {kind} {chief})",
        "create table log (person int references person (id), text text)",
        "insert into person (mail) values ('b'), ('a')",
        "insert into log values (2, 'x'), (1, 'y'), (null, 'z')",
    )
    words = ("--url", f"main={path}", "transfer")
    assert answer(*words, "plan", "--to", destination)["data"]["problems"] == []
    run_sql(destination, "insert into log values (1, 'x'), (1, 'y'), (1, 'y')")
    (problem,) = answer(*words, "plan", "--to", destination, status=4)["data"]["problems"]
    assert (problem["table"], problem["rows"], problem["keys"]) == ("log", 2, [])
    run_sql(destination, "delete from log")
    answer(*words, "run", "--to", destination)


@pytest.mark.slow
def test_destination_without_the_ledger_of_the_source(transfer, destination):
    run_sql(destination, "drop table django_migrations")
    assert transfer("plan", "--to", destination)["data"]["problems"] == []
    transfer("run", "--to", destination)
    assert transfer("verify", "--to", destination)["data"]["objects"] == []


def test_destination_without_a_table_of_the_source_is_refused(transfer, destination):
    run_sql(destination, "drop table item")
    error = transfer("run", "--to", destination, status=4)["error"]
    assert (error["code"], "--derive" in error["hint"]) == ("transfer-schema", False)
    run_sql(destination, "create table item (id int)", "insert into item values (1)")
    transfer("run", "--to", destination, status=4)
    assert run_sql(destination, "select * from item") == [(1,)]


@pytest.mark.slow
def test_rows_of_other_tables_and_options_for_the_schema_are_refused(transfer, destination):
    assert (
        transfer("run", "--derive", "--to", destination, status=6)["error"]["code"] == "transfer-destination"
    )
    run_sql(destination, "create table other (id int)", "insert into other values (1)")
    error = transfer("plan", "--to", destination, status=6)["error"]
    assert (error["code"], "other" in error["message"]) == ("transfer-destination", True)
    run_sql(destination, "delete from other")
    transfer("run", "--to", destination)


@pytest.mark.slow
@pytest.mark.parametrize("stop", ["create", "copy", "finish"])
def test_interrupted_copy_continues_and_keeps_the_tables(transfer, monkeypatch, destination, stop):
    before = run_sql(destination, INDEXES)

    class KilledError(Exception):
        pass

    def fail(*_arguments):
        raise KilledError

    name = {"create": "run._prepare_destination", "copy": "run.copy_table", "finish": "run.finish_copy"}[stop]
    monkeypatch.setattr(f"dbctl.extensions.transfer.{name}", fail)
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
