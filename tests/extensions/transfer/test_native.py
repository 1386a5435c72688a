"""Copies to the same engine: its own definitions of the schema, and rows exactly as they are stored."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing

import psycopg
import pytest
from msgspec import structs

from dbctl.url import parse_url
from tests import servers
from tests.extensions.transfer.conftest import create_source

SCHEMA = """
create schema extra;
create extension if not exists citext;
create type mood as enum ('calm', 'glad');
create type span as (low integer, high numeric);
create domain positive as integer check (value > 0);
create sequence loose_numbers start 5 increment 3;
create function shorten(value text) returns text language sql immutable as $$select left(value, 3)$$;
create table extra.area (id integer generated always as identity primary key, name text not null);
create table note (id bigserial primary key, number integer not null default nextval('loose_numbers'),
  area integer references extra.area (id), mood mood default 'calm', span span, size positive, tags text[], grid integer[][],
  plain json, tree jsonb, words tsvector, amount numeric, price money, during tstzrange, periods int4multirange,
  wait interval, address inet, net cidr, mac macaddr, bits bit varying, spot point, line path, at timestamptz default now(),
  day date, clock timetz, raw bytea, ratio real, big double precision, code uuid, markup xml, mail citext,
  short text generated always as (shorten(mail::text)) stored, constraint size_limit check (size < 100) not valid,
  exclude using gist (during with &&));
comment on table note is 'It''s a note';
comment on column note.mood is 'how';
create index note_tags on note using gin (tags);
create index note_tree on note using gin (tree jsonb_path_ops);
create unique index note_mail on note (lower(mail::text)) where day is not null;
create view glad as select id, mail from note where mood = 'glad';
create materialized view totals as select count(*) as rows from note;
create unique index totals_rows on totals (rows);
create function stamp() returns trigger language plpgsql as $$begin new.day := new.day + 1; return new; end$$;
create table part (id integer not null, at date not null, primary key (id, at)) partition by range (at);
create table part_old partition of part for values from (minvalue) to ('2020-01-01');
create table part_new partition of part for values from ('2020-01-01') to (maxvalue);
create table unkeyed (content text);
create table defaults (id integer primary key, raw bytea default '\\x005c', word text default E'it''s \\\\', price money default 1.50,
  wait interval default '1 day 02:00', at timestamptz default '2020-01-01 00:00+00', tags text[] default '{NULL}');
"""
ROWS = r"""
insert into extra.area (name) values ('first'), ('second');
insert into note (area, mood, span, size, tags, grid, plain, tree, words, amount, price, during, periods, wait, address, net, mac,
  bits, spot, line, at, day, clock, raw, ratio, big, code, markup, mail) values
 (1, 'glad', '(1,2.50)', 7, '{a,"b c",NULL,"d\"e"}', '[0:1][2:3]={{1,2},{3,NULL}}', '{"a": 1,  "a": 2.10, "pi": 3.14159265358979323846264338327950288}',
  '{"n": 123456789012345678.123456789012345678}', 'fat:1A cat', '123456789012345678.123456789012345678000', '12.30',
  '[2020-01-01 00:00+00,infinity)', '{[1,3),[5,9)}', '1 year -2 mons 3 days 04:05:06.789', '10.0.0.1/8', '10.0.0.0/8',
  '08:00:2b:01:02:03', B'10101', '(1.5,-0)', '((0,0),(1,1))', '2020-01-01 12:34:56.789012+05', '0044-03-15 BC', '12:00:00+05:30',
  '\x00ff5c0a09', 'NaN', '-Infinity', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '<a b="c"/>text', E'tab\t new\nline \\ \\N'),
 (null, null, null, null, '{}', null, 'null', 'null', '', 'NaN', null, 'empty', '{}', '-0.000001', null, null, null,
  '', null, null, '-infinity', 'infinity', null, '', '-0', 1e-320, null, null, ''),
 (null, null, '(,)', 1, null, null, null, null, null, '1e-500', null, null, null, null, '::1', null, null, null, null, null,
  '4713-01-01 BC', null, null, null, 1.1754944e-38, 1.7976931348623157e308, null, null, null);
insert into part values (1, '2019-05-05'), (2, '2021-05-05');
insert into unkeyed values ('same'), ('same'), (null), ('');
create trigger stamp before insert on note for each row execute function stamp();
comment on trigger stamp on note is 'adds a day';
alter table note enable always trigger stamp;
refresh materialized view totals;
select setval('loose_numbers', 500, false);
"""


@pytest.fixture
def postgresql_pair():
    """Return two empty databases of a server."""
    with (
        servers.postgresql_database(encoding="UTF8") as first,
        servers.postgresql_database(encoding="UTF8") as second,
    ):
        yield first, second


def execute(url, *statements):
    with closing(psycopg.connect(servers.text(url), autocommit=True)) as db:
        for sql in statements:
            db.execute(sql)


def dump(url, *options):
    """Return what pg_dump writes about a database, without the state of the transfer."""
    command = ["pg_dump", "--dbname", servers.text(url), "--exclude-table=*dbctl_transfer", *options]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def run(answer, first, second, command, *words, **options):
    return answer(
        "--url",
        f"main={servers.text(first)}",
        "transfer",
        command,
        "--to",
        servers.text(second),
        *words,
        **options,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "before",
    [
        "",
        "create type mood as enum ('calm')",
        "create function zero() returns int language sql as 'select 0'",
    ],
)
def test_the_lock_of_the_source_is_no_difference(answer, postgresql_pair, before):
    """pg_dump writes settings of the tables after the last object before them, which may be the function of the lock."""
    first, second = postgresql_pair
    execute(first, before or "select 1", "create table note (id serial primary key)")
    run(answer, first, second, "run")
    run(answer, first, second, "switch", "--yes")
    assert run(answer, first, second, "verify")["data"]["equal"] is True


def test_destination_may_have_the_empty_schema_that_its_search_path_names(answer, postgresql_pair):
    first, second = postgresql_pair
    for url in postgresql_pair:
        execute(url, "create schema extra", f"alter database {url.path} set search_path = extra, public")
    execute(first, "create table extra.note (id serial primary key)", "insert into extra.note default values")
    run(answer, first, second, "run")
    assert run(answer, first, second, "verify")["data"]["equal"] is True
    assert dump(second) == dump(first)


def test_refused_copy_leaves_the_schema_that_was_there(answer, postgresql_pair):
    """Its owner may have no right to create it again."""
    first, second = postgresql_pair
    role = f"owner_of_{second.path}"[:63]
    execute(
        first,
        "create schema extra create table note (id int)",
        "create schema other create table note (id int)",
    )
    execute(
        second,
        f"create role {role} login",
        f"create schema extra authorization {role}",
        f"alter database {second.path} set search_path = extra",
    )
    try:
        destination = structs.replace(second, user=role)
        error = answer(
            "--url",
            f"main={servers.text(first)}",
            "transfer",
            "run",
            "--to",
            servers.text(destination),
            status=None,
        )["error"]
        assert "permission denied for database" in json.dumps(error)
        assert [line for line in dump(second) if line.startswith(("CREATE", "ALTER SCHEMA"))] == [
            "CREATE SCHEMA extra;",
            f"ALTER SCHEMA extra OWNER TO {role};",
        ]
    finally:
        execute(second, f"drop owned by {role}", f"drop role {role}")


@pytest.mark.slow
def test_settings_of_storage_belong_to_the_tables_and_indexes_that_they_concern(answer, postgresql_pair):
    """pg_dump writes them before the first such object, which in the destination is the table with the state of the transfer."""
    first, second = postgresql_pair
    name = f"t_disk_{parse_url(servers.text(first)).path}"[:60]
    execute(first, "set allow_in_place_tablespaces = on", f"create tablespace {name} location ''")
    try:
        execute(
            first,
            "create sequence early",
            "create table note (id integer primary key, number integer default nextval('early'))",
            f"create index note_number on note (number) tablespace {name}",
            "create table plain (id integer primary key)",
            f"create table stored (id integer primary key) tablespace {name}",
        )
        run(answer, first, second, "run")
        assert run(answer, first, second, "verify")["data"]["equal"] is True
        run(answer, first, second, "switch", "--yes")
        answer("--url", f"main={servers.text(first)}", "transfer", "switch", "--unlock")
        assert dump(second, "--schema-only") == dump(first, "--schema-only")
    finally:
        for url in (first, second):
            execute(url, "drop table if exists note, plain, stored")
        execute(first, f"drop tablespace {name}")


@pytest.mark.slow
def test_postgresql_keeps_its_schema_rows_and_counters(answer, postgresql_pair):
    first, second = postgresql_pair
    execute(first, SCHEMA, ROWS)
    plan = run(answer, first, second, "plan")["data"]
    assert (plan["schema"], plan["problems"], plan["omissions"]) == ("native", [], [])
    assert dump(second) == dump(second, "--schema-only")  # the plan changed nothing
    run(answer, first, second, "run")
    assert dump(second, "--schema-only") == dump(first, "--schema-only")
    assert sorted(dump(second, "--data-only")) == sorted(dump(first, "--data-only"))
    assert run(answer, first, second, "verify")["data"]["equal"] is True
    execute(first, "update note set mail = 'changed' where id = 2", "insert into unkeyed values ('late')")
    run(answer, first, second, "switch", "--yes")
    answer("--url", f"main={servers.text(first)}", "transfer", "switch", "--unlock")
    assert dump(second, "--schema-only") == dump(first, "--schema-only")
    assert sorted(dump(second, "--data-only")) == sorted(dump(first, "--data-only"))
    execute(
        second, "insert into note (mail) values ('new')", "insert into extra.area (name) values ('third')"
    )


@pytest.mark.slow
def test_verify_compares_objects_and_counters(answer, postgresql_pair):
    first, second = postgresql_pair
    execute(first, SCHEMA, ROWS)
    run(answer, first, second, "run")
    execute(
        second,
        "drop index note_tags",
        "alter table part alter at set default now()",
        "select nextval('loose_numbers')",
    )
    result = run(answer, first, second, "verify", status=4)["data"]
    differences = {(part["kind"], part["name"]): part["difference"] for part in result["objects"]}
    assert differences[("index", "public.note_tags")] == "missing"
    assert {kind for kind, _ in differences} == {"index", "table", "value"}
    assert all(table["equal"] for table in result["tables"])
    execute(second, "drop table unkeyed")
    result = run(answer, first, second, "verify", status=4)["data"]
    assert {"kind": "table", "name": "public.unkeyed", "difference": "missing"} in result["objects"]
    assert "unkeyed" not in [table["table"] for table in result["tables"]]


@pytest.mark.slow
def test_objects_that_the_destination_refuses_are_problems_of_the_plan(answer, postgresql_pair):
    first, second = postgresql_pair
    execute(
        first,
        "create function pg_catalog.t_absent(integer) returns integer language sql immutable as 'select $1'",
        "create table place (id integer primary key, twice integer default pg_catalog.t_absent(1))",
    )
    (problem, *_) = run(answer, first, second, "plan", status=4)["data"]["problems"]
    assert (problem["column"], problem["table"], problem["rows"]) == ("table", "public.place", 0)
    run(answer, first, second, "run", status=None)
    assert [line for line in dump(second) if line.startswith("CREATE")] == []


@pytest.mark.slow
def test_rows_without_their_parent_are_refused_before_the_copy(answer, postgresql_pair):
    first, second = postgresql_pair
    execute(
        first,
        "create table place (id integer primary key)",
        "create table item (id integer primary key, place integer)",
        "insert into item values (1, 7)",
        "alter table item add foreign key (place) references place not valid",
    )
    (problem,) = run(answer, first, second, "plan", status=4)["data"]["problems"]
    assert (problem["table"], problem["column"], problem["rows"]) == ("item", "place", 1)
    assert run(answer, first, second, "run", status=6)["error"]["code"] == "values-unstorable"
    assert [line for line in dump(second) if line.startswith("CREATE")] == []


def test_destination_with_other_objects_is_refused(answer, postgresql_pair):
    first, second = postgresql_pair
    execute(first, "create table place (id integer primary key)")
    execute(second, "create schema extra", "create type extra.mood as enum ('calm')")
    for command in ("plan", "run"):
        error = run(answer, first, second, command, status=6)["error"]
        assert (error["code"], "mood" in error["message"]) == ("transfer-destination", True)


@pytest.mark.slow
def test_schema_that_changed_after_the_copy_is_copied_again(answer, postgresql_pair):
    first, second = postgresql_pair
    execute(
        first, "create table place (id integer primary key, name text)", "insert into place values (1, 'x')"
    )
    run(answer, first, second, "run")
    execute(first, "create unique index place_name on place (name)", "create table later (id integer)")
    assert (
        run(answer, first, second, "switch", "--yes", status=4)["error"]["code"] == "transfer-schema-changed"
    )
    assert run(answer, first, second, "plan")["data"]["problems"] == []
    run(answer, first, second, "run")
    assert dump(second, "--schema-only") == dump(first, "--schema-only")


@pytest.mark.slow
def test_settings_of_a_database_change_nothing(answer, postgresql_pair):
    first, second = postgresql_pair
    execute(first, SCHEMA, ROWS)
    expected = dump(first, "--schema-only"), sorted(dump(first, "--data-only"))
    for url in (first, second):
        name = parse_url(servers.text(url)).path
        for setting, value in servers.UNUSUAL_POSTGRESQL.items():
            execute(url, f"alter database {name} set {setting} = {value}")
    run(answer, first, second, "run")
    assert run(answer, first, second, "verify")["data"]["equal"] is True
    for url in (first, second):
        execute(url, f"alter database {parse_url(servers.text(url)).path} reset all")
    assert (dump(second, "--schema-only"), sorted(dump(second, "--data-only"))) == expected


@pytest.mark.slow
def test_refused_run_leaves_nothing_and_a_later_table_is_planned(answer, tmp_path, databases):
    source = create_source(tmp_path / "first.db")
    destination = databases("postgresql", tmp_path)

    def change(sql):
        with closing(sqlite3.connect(source)) as db:
            db.execute(sql)
            db.commit()

    change("update person set height = 'tall' where id = 'p0039'")
    words = ("--url", f"main={source}", "transfer")
    answer(*words, "run", "--to", destination, status=6)
    change("update person set height = 1 where id = 'p0039'")
    change("create table later (id integer primary key, name text)")
    assert "later" in [
        table["table"] for table in answer(*words, "plan", "--to", destination)["data"]["tables"]
    ]
    answer(*words, "run", "--to", destination)
    assert answer(*words, "verify", "--to", destination)["data"]["equal"] is True


def test_rows_that_a_policy_hides_are_refused(answer, postgresql_pair, tmp_path):
    first, second = postgresql_pair
    role = f"t_reader_{parse_url(servers.text(first)).path}"[:60]
    execute(
        first,
        "create table item (id integer primary key, secret boolean not null)",
        "insert into item select number, number > 5 from generate_series(1, 10) number",
        "alter table item enable row level security",
        "create policy open on item using (not secret)",
        f"create role {role} login",
        f"grant select on item to {role}",
    )
    try:
        source = structs.replace(first, user=role)
        for url in (servers.text(second), str(tmp_path / "copy.db")):
            words = ("--url", f"main={servers.text(source)}", "transfer", "run", "--to", url)
            assert answer(*words, status=None)["ok"] is False
        assert [line for line in dump(second) if line.startswith("CREATE")] == []
    finally:
        execute(first, f"drop owned by {role}", f"drop role {role}")


FILE_SCHEMA = """
create table kind (id integer primary key autoincrement, name text not null unique);
create table event (at datetime, tree json, untyped, amount decimal(10, 2), flag boolean check (flag in (0, 1)),
  twice integer generated always as (amount * 2) stored);
create table "odd ""name" (rowid text, _rowid_ text, oid text);
create table pair (a text collate nocase, b integer, primary key (a, b)) without rowid;
create table coded (code text primary key, note text);
create virtual table words using fts5 (title, body);
create index event_at on event (at) where at > 5;
create unique index kind_lower on kind (lower(name));
create view shown as select name from kind;
create trigger stamp after insert on kind begin update event set at = new.id where rowid = 9; end;
insert into kind values (5, 'first'), (900, 'last');
delete from kind where id = 900;
insert into event (rowid, at, tree, untyped, amount, flag) values
  (3, 1577836800, '[1, 2, 1.10]', '12', '123456789012345678.123456789012345678', 1), (9, '2020-01-01T00:00:00Z', '{"a":1,"a":2}', 12, 1.50, 0),
  (77, x'0001ff5c', null, 12.5, -0.0, null), (78, 1e300, cast(x'ff00fe' as text), cast(x'80' as text), 9e999, 1),
  (79, 'tab	back\\slash ' || char(10) || char(13) || char(0), '', x'', 0.1, null);
insert into "odd ""name" values ('a', 'b', 'c');
insert into pair values ('A', 1), ('b', -9223372036854775808);
insert into coded values ('x', null), (null, 'no code');
insert into words values ('first title', 'some body'), ('second', 'other');
delete from words where rowid = 1;
pragma user_version = 77; pragma application_id = 123456;
"""


def dump_file(path):
    """Return the schema and the rows of a file with their rowids and types, without the state of the transfer."""
    with closing(sqlite3.connect(path)) as db:
        db.text_factory = bytes
        schema = db.execute(
            "select type, name, sql from sqlite_master where tbl_name <> 'dbctl_transfer' order by type, name"
        ).fetchall()
        rows = {}
        for kind, name, _ in schema:
            if kind == b"table" and name != b"words":
                quoted = name.decode().replace('"', '""')
                columns = [column[1].decode() for column in db.execute(f'pragma table_info("{quoted}")')]
                types = ", ".join(f'typeof("{column.replace(chr(34), chr(34) * 2)}")' for column in columns)
                rows[name] = sorted(map(repr, db.execute(f'select *, {types} from "{quoted}"')))
        rows["rowids"] = db.execute("select rowid, at from event").fetchall()
        rows["search"] = db.execute("select rowid, title from words where words match 'second'").fetchall()
        rows["values"] = [
            db.execute(f"pragma {name}").fetchone() for name in ("user_version", "application_id")
        ]
        return schema, rows


def test_sqlite_keeps_statements_and_stored_values(answer, tmp_path):
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    with closing(sqlite3.connect(first)) as db:
        db.executescript(FILE_SCHEMA)
    words = ("--url", f"main={first}", "transfer")
    plan = answer(*words, "plan", "--to", str(second))["data"]
    assert (plan["schema"], plan["problems"], plan["omissions"], second.exists()) == ("native", [], [], False)
    answer(*words, "run", "--to", str(second))
    assert answer(*words, "verify", "--to", str(second))["data"]["equal"] is True
    with closing(sqlite3.connect(first)) as db:
        db.executescript(
            "insert into words values ('third', 'second'); update event set untyped = 5 where rowid = 77"
        )
    answer(*words, "switch", "--to", str(second), "--yes")
    answer(*words, "switch", "--unlock")
    expected, copied = dump_file(first), dump_file(second)
    assert copied[0] == expected[0]
    assert copied[1] == expected[1]
    assert answer(*words, "verify", "--to", str(second))["data"]["equal"] is True
    with closing(sqlite3.connect(second)) as db:
        db.execute("insert into kind (name) values ('new')")
        assert db.execute("select max(id) from kind").fetchone() == (901,)
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        db.execute("insert into words (words) values ('integrity-check')")


def test_verify_names_a_search_index_that_the_destination_lacks(answer, tmp_path):
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    for path, index in ((first, "create virtual table note_search using fts5(text)"), (second, "")):
        with closing(sqlite3.connect(path)) as db:
            db.executescript(f"create table note (id integer primary key, text); {index}")
    result = answer("--url", f"main={first}", "transfer", "verify", "--to", str(second), status=4)["data"]
    assert [(part["name"], part["difference"]) for part in result["objects"]] == [("note_search", "missing")]
    assert [(table["table"], table["equal"]) for table in result["tables"]] == [("note", True)]
