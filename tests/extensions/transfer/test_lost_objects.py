"""``transfer verify`` reports objects that the destination of a derived schema has lost since the copy."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.extensions.transfer.test_json import run_sql

SCHEMA = """
create table room (id integer primary key autoincrement, name text not null unique, floor integer check (floor < 100));
create table person (id integer primary key autoincrement, room integer references room (id), mail text);
create index person_mail on person (mail);
create view names as select name from room;
insert into room values (1, 'a', 1);
insert into person values (1, 1, 'x');
"""
LOSSES = {
    "postgresql": {
        "drop index person_mail": ("index", "person_mail of person", "missing"),
        "alter table person drop constraint person_room_fkey": ("foreign key", "room of person", "missing"),
        "alter table room drop constraint room_floor_check": ("table", "room", "different"),
        "alter table person alter id drop identity": ("column", "person.id", "different"),
        "alter table room alter name drop not null": ("column", "room.name", "different"),
        "drop view names": ("view", "names", "missing"),
    },
    "mysql": {
        "alter table person drop index person_mail": ("index", "person_mail of person", "missing"),
        "alter table person modify id bigint not null": ("column", "person.id", "different"),
    },
}


@pytest.mark.parametrize("engine", ["mysql", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_lost_objects_are_reported(answer, databases, tmp_path, engine):
    path = tmp_path / "source.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA)
    words, destination = ("--url", f"main={path}", "transfer"), databases(engine, tmp_path)
    answer(*words, "run", "--to", destination)
    assert answer(*words, "verify", "--to", destination)["data"]["equal"] is True
    expected = set()
    for statement, difference in LOSSES[engine].items():
        run_sql(destination, statement)
        expected.add(difference)
        objects = answer(*words, "verify", "--to", destination, status=4)["data"]["objects"]
        assert {(part["kind"], part["name"], part["difference"]) for part in objects} == expected


def test_hint_for_a_lost_table_names_a_way_that_works(answer, databases, tmp_path):
    path = tmp_path / "source.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA)
    words, destination = ("--url", f"main={path}", "transfer"), databases("postgresql", tmp_path)
    answer(*words, "run", "--to", destination)
    run_sql(destination, "drop table person")
    error = answer(*words, "verify", "--to", destination, status=4)["error"]
    assert (error["code"], "--derive" in error["hint"]) == ("transfer-schema", False)
