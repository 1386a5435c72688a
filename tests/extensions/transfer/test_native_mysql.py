"""Copies of MariaDB and MySQL to the same product: the definitions of the server, and rows exactly as they are stored."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests import servers

#: Read with the settings of a server's clients.
SCHEMA = r"""
set sql_mode = 'NO_ENGINE_SUBSTITUTION,ALLOW_INVALID_DATES';
create table person (id int unsigned not null auto_increment primary key,
  name varchar(100) character set utf8mb4 collate utf8mb4_unicode_ci not null unique, chief int unsigned, room bigint,
  mood enum('calm', '', 'glad') collate utf8mb4_bin, parts set('a', 'b', 'c'), bits bit(13), tall float, wide double,
  amount decimal(30, 12) zerofill, born date, at datetime(6) default '0000-00-00 00:00:00', year year,
  changed timestamp(3) not null default current_timestamp(3) on update current_timestamp(3), wait time(2),
  photo longblob, raw varbinary(40), fixed binary(4), latin varchar(20) character set latin1, wide_text text character set utf16,
  note text comment 'it''s a "note" \\ of\nlines', tree json, spot point,
  short varchar(30) generated always as (concat(name, '\\x''', room)) virtual,
  twice decimal(31, 12) as (amount * 2) stored, hidden int default 7 invisible, constraint tall check (tall < 1000),
  key born (born desc), key name_prefix (name(5)), fulltext key note (note), key changed (changed)) auto_increment = 500 comment 'people';
create table room (id bigint not null primary key auto_increment, owner int unsigned,
  foreign key (owner) references person (id) on delete set null on update cascade) row_format = compressed;
alter table person add constraint person_room foreign key (room) references room (id),
  add constraint person_chief foreign key (chief) references person (id) on delete cascade;
create table archive (content varchar(20), at timestamp null, key (content)) engine = MyISAM default charset = latin1;
create table parted (id int not null, day date not null, primary key (id, day))
  partition by range (to_days(day)) (partition old values less than (to_days('2020-01-01')), partition new values less than maxvalue);
create table pair (a varchar(20) collate utf8mb4_bin not null, b enum('z', 'a') not null, c int, primary key (b, a));
set foreign_key_checks = 0;
insert into person (id, name, chief, room, mood, parts, bits, tall, wide, amount, born, at, year, changed, wait, photo, raw, fixed,
    latin, wide_text, note, tree, spot, hidden) values
  (1, 'Ann', 3, null, '', 'a,c', b'1000000000001', 0.1, -0e0, '123456789012345678.123456789012', '0000-00-00', '2020-02-31 00:00:00',
   0, '2020-10-25 00:30:00.125', '-838:59:59', x'0001ff5c270a', x'', 'ab', _latin1 x'e480', '🎉', concat('tab', char(9), 'line', char(10), char(13), char(0), '\\N back\\slash ''"'),
   '[1, 2, 1.10]', point(1, -2), 1),
  (3, 'Öl', 99, 5, null, '', 0, 1e-40, 1.7976931348623157e308, 0, '2020-01-00', '9999-12-31 23:59:59.999999', 2155,
   '1970-01-01 00:00:01', '00:00:00.01', '', null, '', '', '', '', null, null, null),
  (42, '漢字', null, null, 'calm', null, null, null, null, null, null, null, null, default, null, null, null, null, null, null, null, null, null, 2);
update person set changed = '2021-03-28 01:30:00.999', born = '2020-00-00' where id = 42;
update ignore person set mood = 9 where id = 42;
insert into room values (5, 3), (900, null);
delete from room where id = 900;
insert into archive values ('same', null), ('same', null), ('', '2020-01-01 00:00:00');
insert into parted values (1, '2019-01-01'), (2, '2021-01-01');
insert into pair values ('x', 'z', 1), ('X', 'a', 2), ('x', 'a', null);
set foreign_key_checks = 1;
create view z_names as select name, upper(name) as loud, 'it''s \\' as text from person;
create view a_loud as select loud from z_names where loud <> '';
create function shorten(value text) returns varchar(9) deterministic return left(value, 3);
create view shorts as select shorten(name) as short from person;
create procedure add_room() insert into room (owner) values (null);
create trigger room_second before insert on room for each row set new.owner = coalesce(new.owner, 1);
create trigger room_third before insert on room for each row set new.owner = new.owner + 2;
create event clean on schedule every 1 year starts '2037-01-01 00:00:00' on completion preserve do delete from archive;
set sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT';
create trigger "Person name" before insert on "person" for each row set new.note = 'a' || 'b\\';
"""
MARIADB = r"""
set sql_mode = 'ANSI_QUOTES';
create sequence numbers start 5 increment 3 maxvalue 100000;
set sql_mode = '';
create table numbered (id bigint default nextval(numbers) primary key, code uuid, address inet6, created datetime default now(6));
insert into numbered (code, address) values ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '::1'), (null, null);
create table price (id int auto_increment primary key, amount int) with system versioning;
create table price_named (id int, amount int, since timestamp(6) generated always as row start, until timestamp(6) generated always as row end,
  period for system_time (since, until)) with system versioning;
insert into price (amount) values (1), (2), (3);
update price set amount = amount + 10;
delete from price where id = 2;
insert into price_named (id, amount) values (1, 1), (2, 2);
update price_named set amount = 7;
set sql_mode = 'ORACLE';
create package tools as function one return int; end;
create package body tools as function one return int as begin return 1; end; end;
"""


@pytest.fixture
def pair():
    """Return two empty databases of a server."""
    with servers.mysql_database() as first, servers.mysql_database() as second:
        yield first, second


def execute(url, *scripts):
    with closing(servers.mysql_connection(url)) as own, own.cursor() as cursor:
        for script in scripts:
            for sql in script.replace("; end", "\0 end").split(";\n"):
                if sql.strip():
                    cursor.execute(sql.replace("\0 end", "; end").removesuffix(";"))


def create_source(url):
    execute(url, SCHEMA)
    if servers.server_at(url).is_mariadb:
        execute(url, MARIADB)


def fetch(url, sql):
    with closing(servers.mysql_connection(url)) as own, own.cursor() as cursor:
        cursor.execute("set sql_mode = '', time_zone = '+00:00'")
        cursor.execute(sql)
        return cursor.fetchall()


def describe(url):
    """Return what the server shows about each object, and its rows with their history as bytes."""
    database = url.path
    shown, rows = {}, {}
    tables = fetch(
        url,
        f"select table_name, table_type from information_schema.tables where table_schema = '{database}' and table_name <> 'dbctl_transfer'",
    )
    for name, kind in tables:
        ((_, text, *_),) = fetch(url, f"show create table `{name}`")
        shown["table", name] = text.replace(f"`{database}`.", "")
        history = " for system_time all" if kind == "SYSTEM VERSIONED" else ""
        versions = ", row_start, row_end" if name == "price" else ""
        hidden = ", hidden" if name == "person" else ""
        if kind != "VIEW":
            rows[name] = sorted(map(repr, fetch(url, f"select *{hidden}{versions} from `{name}`{history}")))
    for kind, name in fetch(
        url,
        f"select routine_type, routine_name from information_schema.routines where routine_schema = '{database}'",
    ):
        shown[kind, name] = fetch(url, f"show create {kind} `{name}`")[0][:-1]
    for (name,) in fetch(
        url,
        f"select trigger_name from information_schema.triggers where trigger_schema = '{database}' and trigger_name not like 'dbctl%' order by action_order",
    ):
        shown["trigger", name] = fetch(url, f"show create trigger `{name}`")[0][:5]
    for (name,) in fetch(
        url, f"select event_name from information_schema.events where event_schema = '{database}'"
    ):
        *settings, text, _, _ = fetch(url, f"show create event `{name}`")[0][:-1]
        # only one side runs it
        shown["event", name] = *settings, text.replace("PRESERVE ENABLE", "PRESERVE DISABLE")
    return shown, rows


def list_enabled_events(url):
    sql = f"select event_name from information_schema.events where event_schema = '{url.path}' and status = 'ENABLED'"
    return [name for (name,) in fetch(url, sql)]


def require_same(first, second):
    """Compare the objects and rows of two databases."""
    for copied, expected in zip(describe(second), describe(first), strict=True):
        for name in {*copied, *expected}:
            assert copied.get(name) == expected.get(name), name


def run(answer, first, second, command, *words, **options):
    source = ("--url", f"main={servers.text(first)}")
    return answer(*source, "transfer", command, "--to", servers.text(second), *words, **options)


@pytest.mark.slow
def test_schema_rows_history_and_counters_are_equal(answer, pair):
    first, second = pair
    create_source(first)
    plan = run(answer, first, second, "plan")["data"]
    assert (plan["schema"], plan["problems"]) == ("native", [])
    assert [(part["kind"], part["name"]) for part in plan["omissions"]] == [("event", "clean")]
    assert describe(second) == ({}, {})  # the plan changed nothing
    run(answer, first, second, "run")
    require_same(first, second)
    assert run(answer, first, second, "verify")["data"]["equal"] is True
    execute(
        first,
        "update person set name = 'changed' where id = 42",
        "insert into archive values ('late', null)",
        "insert into pair values ('y', 'z', null)",
        "delete from pair where c = 2",
    )
    if servers.server_at(first).is_mariadb:
        execute(first, "update price set amount = 100 where id = 1", "select nextval(numbers)")
    execute(first, "create event off on schedule every 1 day disable do delete from archive")
    run(answer, first, second, "run")
    assert (list_enabled_events(first), list_enabled_events(second)) == (["clean"], [])
    run(answer, first, second, "switch", "--yes")
    require_same(first, second)
    assert list_enabled_events(second) == ["clean"]
    execute(second, "insert into person (name) values ('new')", "call add_room()")
    assert fetch(second, "select max(id) from person") == ((500,),)
    assert fetch(second, "select id, owner from room order by id") == ((5, 3), (901, 3))


@pytest.mark.slow
def test_verify_compares_objects_and_counters(answer, pair):
    first, second = pair
    create_source(first)
    run(answer, first, second, "run")
    execute(
        second,
        "drop trigger room_third",
        "drop view a_loud",
        "alter table person drop key born, auto_increment = 7000",
        "alter table parted comment = 'other'",
    )
    result = run(answer, first, second, "verify", status=4)["data"]
    differences = {(part["kind"], part["name"]): part["difference"] for part in result["objects"]}
    assert differences == {
        ("trigger", "room_third"): "missing",
        ("view", "a_loud"): "missing",
        ("table", "person"): "different",
        ("table", "parted"): "different",
        ("value", "AUTO_INCREMENT person"): "500 in the source, 7000 in the destination",
    }
    assert all(table["equal"] for table in result["tables"])


def test_definers_that_the_destination_lacks_are_replaced(answer, pair):
    first, second = pair
    execute(
        first,
        "create table item (id int primary key)",
        "create definer = 'gone'@'elsewhere' view items as select id from item",
        "create definer = 'gone'@'elsewhere' procedure p() sql security invoker select 1",
        "create definer = 'gone'@'elsewhere' trigger t before insert on item for each row set new.id = new.id + 1",
    )
    (omission,) = run(answer, first, second, "plan")["data"]["omissions"]
    assert (omission["kind"], omission["name"]) == ("definer", "gone@elsewhere")
    run(answer, first, second, "run")
    assert run(answer, first, second, "verify")["data"]["equal"] is True
    assert fetch(second, "select * from items") == ()
    definer = f"select definer from information_schema.views where table_schema = '{second.path}'"
    assert fetch(second, definer) == fetch(second, "select current_user()")


def test_objects_that_the_destination_cannot_have_are_problems(answer, pair):
    first, second = pair
    execute(
        first,
        "create table item (id int primary key)",
        "create table lost (id int)",
        "create view broken as select id from lost",
        "drop table lost",
        f"create trigger t before insert on item for each row set new.id = (select max(id) from {first.path}.item)",
        f"create trigger {first.path}.sound before insert on {first.path}.item for each row set new.id = 1",
    )
    plan = run(answer, first, second, "plan", status=4)["data"]
    assert [(part["kind"], part["name"]) for part in plan["omissions"]] == [
        ("view", "broken"),
        ("trigger", "t"),
    ]
    (problem,) = plan["problems"]
    assert (problem["column"], problem["table"], problem["rows"]) == ("trigger", "t", 0)
    assert run(answer, first, second, "run", status=6)["error"]["code"] == "values-unstorable"
    assert describe(second) == ({}, {})  # nothing remains
    execute(first, "drop trigger t")
    run(answer, first, second, "run")
    execute(second, "insert into item values (5)")
    assert (fetch(first, "select * from item"), fetch(second, "select * from item")) == ((), ((1,),))


def test_destination_with_other_objects_is_refused(answer, pair):
    first, second = pair
    execute(first, "create table item (id int primary key)")
    execute(second, "create procedure other() select 1")
    for command in ("plan", "run"):
        error = run(answer, first, second, command, status=6)["error"]
        assert (error["code"], "other" in error["message"]) == ("transfer-destination", True)


@pytest.mark.slow
def test_default_collation_of_the_destination_is_listed(answer):
    with (
        servers.mysql_database(more="character set latin1") as first,
        servers.mysql_database(more="character set utf8mb4 collate utf8mb4_bin") as second,
    ):
        create_source(first)
        omissions = run(answer, first, second, "plan")["data"]["omissions"]
        assert ("default collation", "latin1_swedish_ci") in [
            (part["kind"], part["name"]) for part in omissions
        ]
        run(answer, first, second, "run")
        require_same(first, second)


def test_decimals_in_json_are_copied_as_numbers(answer, pair):
    """Only functions store decimals in JSON."""
    first, second = pair
    if servers.server_at(first).is_mariadb:
        pytest.skip("MariaDB stores JSON as text")
    execute(
        first,
        "create table paid (id int primary key, doc json)",
        """insert into paid values (1, json_array(1.10, '1.10', 'it''s "\\\\')), (2, null), (3, '[1.0, -0.0]')""",
    )
    run(answer, first, second, "run")
    assert run(answer, first, second, "verify")["data"]["equal"] is True
    same = f"select doc = (select doc from `{first.path}`.paid p where p.id = paid.id) from paid"
    assert fetch(second, same) == ((1,), (None,), (1,))
    execute(first, "update paid set doc = json_array(1234567890123456789012.5) where id = 3")
    run(answer, first, second, "verify", status=4)


def test_history_that_the_destination_cannot_store_is_listed(answer, pair):
    first, second = pair
    if not servers.server_at(first).is_mariadb:
        pytest.skip("only MariaDB has versions of rows")
    execute(
        first,
        "create table stock (id int primary key, amount int, a bigint unsigned generated always as row start,"
        " b bigint unsigned generated always as row end, period for system_time (a, b)) with system versioning engine = InnoDB",
        "insert into stock (id, amount) values (1, 1)",
        "update stock set amount = 2",
    )
    (omission,) = run(answer, first, second, "plan")["data"]["omissions"]
    assert (omission["kind"], omission["name"]) == ("history", "stock")
    run(answer, first, second, "run")
    assert fetch(second, "select id, amount from stock for system_time all") == ((1, 2),)


@pytest.mark.parametrize("place", ["source", "destination"])
def test_settings_of_a_server_change_nothing(answer, place):
    other = servers.private_mysql(*servers.UNUSUAL_MYSQL)
    with servers.mysql_database() as usual, servers.mysql_database(server=other) as hostile:
        first, second = (hostile, usual) if place == "source" else (usual, hostile)
        create_source(first)
        run(answer, first, second, "run")
        assert run(answer, first, second, "verify")["data"]["equal"] is True
        require_same(first, second)
