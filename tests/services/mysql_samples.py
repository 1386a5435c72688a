"""Samples of all types, storage engines and objects of MySQL and MariaDB databases.

``{db}`` is the database; ``gone`` is an account that the test drops after creating the samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_INTEGERS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_TEXTS = ["''", "'a'", "' b '", r"'quote '' and \\ and \n and \Z'", "'(),;`\"%'", "'Straße — 日本 😀'"]
_BYTES = ["''", "0x00", "concat(" + ",".join(f"char({n} using binary)" for n in range(256)) + ")"]
_TIMES = ["'2024-02-29 23:59:59.999999'", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'"]
#: Times around the daylight saving changes in Europe.
_DST = ["'2024-03-31 01:00:00'", "'2024-03-31 02:30:00'", "'2024-10-27 00:30:00'", "'2024-10-27 01:30:00'"]
_POINT = "st_geomfromtext('POINT(1.1 -2.2)')"
_SHAPES = {
    "point": [_POINT, "st_geomfromtext('POINT(1e-30 1.7976931348623157e308)')"],
    "linestring": ["st_geomfromtext('LINESTRING(0 0,1 1,2 0.1)')"],
    "polygon": ["st_geomfromtext('POLYGON((0 0,0 1,1 1,0 0))')"],
    "multipoint": ["st_geomfromtext('MULTIPOINT(0 0,1 1)')"],
    "multilinestring": ["st_geomfromtext('MULTILINESTRING((0 0,1 1),(2 2,3 3))')"],
    "multipolygon": ["st_geomfromtext('MULTIPOLYGON(((0 0,0 1,1 1,0 0)))')"],
    "geometrycollection": ["st_geomfromtext('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')"],
}
_FLOATS = [
    "0",
    "-0e0",
    "52.520008",
    "0.1",
    "16777217",
    "3.4028234663852886e38",
    "1.401298464324817e-45",
    "-1.17549435e-38",
    "1e10",
]
_DOUBLES = [*_FLOATS, "1.7976931348623157e308", "4.9e-324", "0.1e0 + 0.2e0", "9007199254740993"]

#: Column definitions and values by type, as named in ``information_schema.columns.data_type``.
TYPES: Mapping[str, Sequence[tuple[str, Sequence[str]]]] = {
    **{
        name: [
            (name, [str(-(1 << bits - 1)), "0", str((1 << bits - 1) - 1)]),
            (f"{name} unsigned", ["0", str((1 << bits) - 1)]),
            (f"{name}(4) zerofill", ["7"]),
        ]
        for name, bits in _INTEGERS.items()
    },
    "bit": [
        ("bit(1)", ["b'0'", "b'1'"]),
        ("bit(64)", ["b'1'", "18446744073709551615", "0x0a27"]),
        ("bit(9)", ["256"]),
    ],
    "decimal": [
        ("decimal(65,30)", ["99999999999999999999999999999999999.999999999999999999999999999999", "-1e-30"]),
        ("decimal(1)", ["-9"]),
    ],
    "float": [
        ("float", _FLOATS),
        ("float unsigned", ["123456.789"]),
        ("float(7,4)", ["999.9999", "0.0001", "52.520008"]),
        ("float(20,10)", ["123456.7890123", "0.1"]),
    ],
    "double": [
        ("double", _DOUBLES),
        ("double(20,10)", ["0.1", "1234567890.0123456789"]),
        ("double(65,30)", ["0.1"]),
    ],
    "year": [("year", ["0", "1901", "2155"])],
    "date": [("date", ["'0000-00-00'", "'2024-02-00'", "'0001-01-01'", "'9999-12-31'"])],
    "time": [("time(6)", ["'-838:59:59'", "'838:59:59'", "'-00:00:00.000001'"]), ("time", ["'-1:00'"])],
    "datetime": [
        ("datetime(6)", ["'0000-00-00'", "'9999-12-31 23:59:59.999999'", *_TIMES]),
        ("datetime", _DST),
    ],
    "timestamp": [
        ("timestamp(6) null", [*_TIMES, *_DST]),
        ("timestamp not null default current_timestamp on update current_timestamp", ["'0000-00-00'", *_DST]),
    ],
    "char": [("char(255)", _TEXTS), ("char(0)", ["''"]), ("char(5) character set ucs2", ["'ab'"])],
    "varchar": [("varchar(500)", _TEXTS), ("national varchar(9)", ["'ä'"])],
    **{
        name: [(name, [*_TEXTS, "repeat('x', 250)"])]
        for name in ("tinytext", "text", "mediumtext", "longtext")
    },
    "binary": [("binary(16)", ["0x00", "0x20", "0xff"]), ("binary(255)", ["0x5c27"])],
    "varbinary": [("varbinary(300)", _BYTES)],
    "tinyblob": [("tinyblob", ["0x00ff", "''"])],
    **{name: [(name, _BYTES)] for name in ("blob", "mediumblob")},
    "longblob": [("longblob", [*_BYTES, "repeat(0x00ff5c27, 300000)"])],
    "enum": [
        (
            "enum('a','B','it''s','back\\\\slash','x,y','ü')",
            ["'a'", "'it''s'", r"'back\\slash'", "'x,y'", "'ü'", "'not a member'"],
        ),
        ("enum('','0','1','2') character set latin1", ["''", "'not a member'", "'0'", "'2'", "1"]),
    ],
    "set": [("set('a','b c','it''s','ü','')", ["''", "'a'", "'a,it''s,ü'", "0", "31"])],
    "json": [("json", ['\'{"a": [1, 2.50, 1e300, null, "ü\\\\n"]}\'', "'[]'", "'\"text\"'", "'1'"])],
    **{name: [(name, shapes)] for name, shapes in _SHAPES.items()},
    "geometry": [
        (
            "geometry",
            [_POINT, *(shapes[0] for shapes in _SHAPES.values()), "st_geomfromtext('POINT(9 50)', 4326)"],
        )
    ],
    "geomcollection": [("geomcollection", _SHAPES["geometrycollection"])],
    "inet4": [("inet4", ["'0.0.0.0'", "'255.255.255.255'"])],
    "inet6": [("inet6", ["'::'", "'2001:db8::ff00:42:8329'", "'::ffff:1.2.3.4'"])],
    "uuid": [("uuid", ["'123e4567-e89b-12d3-a456-426655440000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"])],
    "vector": [("vector(3)", ["{vector}('[1.5, -0.1, 3.4e38]')"])],
}

#: Whether tables of a storage engine are restored or refused, and statements that create one; a refusal names the table ``odd``.
RESTORED, REFUSED = "restored", "refused"
ENGINES: Mapping[str, tuple[str, Sequence[str]]] = {
    "InnoDB": (RESTORED, ["create table odd (id int primary key) engine=InnoDB"]),
    "MyISAM": (RESTORED, ["create table odd (id int) engine=MyISAM", "insert into odd values (1), (2)"]),
    "Aria": (
        RESTORED,
        ["create table odd (id int) engine=Aria page_checksum=1", "insert into odd values (1), (2)"],
    ),
    "MEMORY": (RESTORED, ["create table odd (id int) engine=MEMORY", "insert into odd values (1), (2)"]),
    "CSV": (RESTORED, ["create table odd (id int not null) engine=CSV", "insert into odd values (1), (2)"]),
    "ARCHIVE": (RESTORED, ["create table odd (id int) engine=ARCHIVE", "insert into odd values (1), (2)"]),
    "BLACKHOLE": (REFUSED, ["create table odd (id int) engine=BLACKHOLE"]),
    "MRG_MYISAM": (
        REFUSED,
        ["create table one (id int) engine=MyISAM", "create table odd (id int) engine=MERGE union=(one)"],
    ),
    "FEDERATED": (
        REFUSED,
        [
            "create table real_one (id int)",
            (
                "create or replace server odd_server foreign data wrapper 'mysql'"
                " options (user 'root', socket '{socket}', database '{db}')"
            ),
            "create table odd (id int) engine=FEDERATED connection='odd_server/real_one'",
            "drop server odd_server",
        ],
    ),
}
#: Engines that cannot store a table of a database.
ENGINES_WITHOUT_TABLES: Mapping[str, str] = {
    "SEQUENCE": "its tables are generated when a query names them",
    "PERFORMANCE_SCHEMA": "its tables describe the server",
    "ndbcluster": "requires an NDB cluster",
    "ndbinfo": "describes an NDB cluster",
}

#: Objects of a database, by the ``CREATE`` statement that creates them; each has a sample below.
KINDS: Mapping[str, str] = {
    "EVENT": "event", "FUNCTION": "function", "INDEX": "index", "PACKAGE": "package", "PACKAGE BODY": "package body",
    "PROCEDURE": "procedure", "SEQUENCE": "sequence", "TABLE": "table", "TRIGGER": "trigger", "VIEW": "view",
    "TABLE with Vectors": "table", "LIBRARY": "library", "SCHEMA": "the database itself", "DATABASE": "the database itself",
}  # fmt: skip
#: Objects outside of databases, by the ``CREATE`` statement that creates them.
KINDS_OF_SERVERS: Mapping[str, str] = {
    "FUNCTION UDF": "a file of the server", "FUNCTION LOADABLE FUNCTION": "a file of the server",
    "FUNCTION SONAME": "a file of the server", "LOGFILE GROUP": "part of an NDB cluster", "ROLE": "an account",
    "SERVER": "an entry of a system table", "TABLESPACE": "a file of the server", "USER": "an account",
    "RESOURCE GROUP": "threads of the server", "SPATIAL REFERENCE SYSTEM": "an entry of the data dictionary",
    "MASKING POLICY": "a setting of the server", "EXTERNAL TABLE": "data in object storage", "FIREWALL": "a setting of the server",
}  # fmt: skip

#: Every kind of table, column and object that both MySQL and MariaDB support.
OBJECTS: Sequence[str] = (
    "create table parent (id int primary key, child int, constraint to_child foreign key (child) references child (id))",
    ("create table child (id int primary key, parent int, key (parent), constraint to_parent foreign key (parent)"
    " references parent (id) on delete cascade on update set null)"),
    "insert into parent values (1, 7)",
    "insert into child values (7, 1)",
    "create table `odd \\ `` ' \" ; -- (x) é 日` (`a ``b` int primary key, `select` text, `%s` int, ` é` int default 5)",
    "insert into `odd \\ `` ' \" ; -- (x) é 日` values (1, ');', 3, 4)",
    "create table `UNLOCK TABLES` (`-- Dumping data for table ``x``` text)",
    "insert into `UNLOCK TABLES` values ('-- Dump completed\n-- Dumping data for table `x`\nINSERT INTO `x` VALUES (1);')",
    "create table empty_one (id int auto_increment primary key) auto_increment = 4711 comment 'it''s \\\\ one'",
    "create table keyless (a int, b varchar(9))",
    "insert into keyless values (1, 'x'), (1, 'x'), (null, null)",
    "create table zero (id int auto_increment primary key)",
    "set sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
    "insert into zero values (0), (5)",
    "set sql_mode = ''",
    ("create table computed (id int primary key, n double, v double generated always as (n * 2) virtual,"
    " s double generated always as (n * 3) stored, t varchar(9) generated always as (concat(id, '''')) virtual, key (v))"),
    "insert into computed (id, n) values (1, 0.1), (2, null)",
    "create table checked (id int, n int, constraint positive check (n > 0), check (id <> n))",
    "insert into checked values (1, 2)",
    ("create table defaults (id int primary key, u varchar(40) default (uuid()), e int default (1 + 2), at datetime(3)"
    " default current_timestamp(3) on update current_timestamp(3), b bit(3) default b'101', x varbinary(3) default 0x0027)"),
    "insert into defaults (id) values (1)",
    "create table hidden (id int primary key, secret int invisible default 3)",
    "insert into hidden (id, secret) values (1, 2)",
    ("create table indexed (id int, t text, s varchar(200), g geometry not null, u int, key k (s(10), id desc),"
    " fulltext key f (t), spatial key sp (g), unique key uu (u, id))"),
    "insert into indexed values (1, 'words in a text', 's', st_geomfromtext('POINT(1 2)'), 1)",
    "create table compact (id int primary key, b blob) row_format=compressed key_block_size=4",
    "insert into compact values (1, repeat('x', 9000))",
    "create table dynamic (id int primary key) row_format=dynamic stats_persistent=1 stats_sample_pages=9",
    ("create table by_range (id int, d date) partition by range (year(d)) subpartition by hash (id) subpartitions 2"
    " (partition p0 values less than (2000), partition p1 values less than maxvalue)"),
    "insert into by_range values (1, '1999-01-01'), (2, '2024-01-01'), (3, null)",
    "create table by_list (id int) partition by list (id) (partition p1 values in (1, 2), partition p2 values in (3, null))",
    "insert into by_list values (1), (3), (null)",
    "create table by_key (id int primary key) partition by key () partitions 3",
    "insert into by_key values (1), (2), (3), (4)",
    ("create table by_columns (a int, b varchar(9)) partition by range columns (a, b) (partition p values less than (5, 'm'),"
    " partition q values less than (maxvalue, maxvalue))"),
    "insert into by_columns values (1, 'a'), (9, 'z')",
    "create table log (what varchar(200))",
    "create function twice(n int) returns int deterministic return n * 2",
    "create function quotes() returns varchar(99) character set latin1 deterministic return concat('it''s', \"a\", '\\\\')",
    ("create procedure noted(in a int, out b int, inout c varchar(9)) comment 'it''s' begin\n-- Dumping data for table `x`\n"
    "declare i int default 0; while i < 3 do set i = i + 1; end while; insert into log values ('INSERT INTO `log` VALUES (1)'); end"),
    "create trigger first_one before insert on keyless for each row set new.b = coalesce(new.b, '-')",
    "create trigger second_one before insert on keyless for each row follows first_one set new.a = new.a",
    "create trigger after_it after delete on keyless for each row begin insert into log values (old.b); end",
    "create event nightly on schedule every 1 day starts '2030-01-01 00:00:00' disable comment 'x' do delete from log",
    "create event once_only on schedule at '2037-01-01 00:00:00' on completion preserve do delete from log",
    "create view plain as select id, child from parent",
    "create view a_on_z as select * from z_base",
    "create view on_view as select id, twice(id) as t from plain where id > 0 with cascaded check option",
    "create sql security invoker view invoker as select database() as d, 'it''s `x`.`y`.`z`' as q",
    "create algorithm=merge view merged as select id from parent where id < 5 with local check option",
    "create algorithm=temptable view grouped as select count(*) as n from parent group by child",
    "create view of_another as select user, host from mysql.user",
    "create view `odd ' view` as select `a ``b` as `it's` from `odd \\ `` ' \" ; -- (x) é 日`",
    "create table {db} (id int, {db} int)",
    "insert into {db} values (1, 2)",
    "create view same_name as select {db}.{db} from {db}",
    ("create definer=gone@localhost view definer_gone as select p.id, c.parent, twice(p.id) as t, '`{db}`.`x`.`y`' as q"
    " from parent p join child c on c.id = p.child"),
    "create definer=gone@localhost view definer_gone_same as select {db}.id, (select max({db}.{db}) from {db}) as m from {db}",
    "create definer=gone@localhost sql security invoker view definer_gone_invoker as select id from parent",
    "create definer=gone@localhost trigger trigger_gone before insert on child for each row set new.parent = new.parent",
    "create definer=gone@localhost procedure procedure_gone() select * from parent",
    "create definer=gone@localhost function function_gone() returns int deterministic return 1",
    "create definer=gone@localhost event event_gone on schedule every 1 year disable do select 1",
)  # fmt: skip
#: Created before ``OBJECTS``, so that creating objects in the order of their names would fail.
FIRST: Sequence[str] = (
    "set foreign_key_checks = 0",
    "set sql_mode = ''",
    "create view z_base as select 1 as id",
)
MARIADB: Sequence[str] = (
    "create table only_generated (g int generated always as (1 + 1) stored)",
    "insert into only_generated values ()",
    "create sequence counter start with 5 increment by 3 maxvalue 99 cycle cache 2",
    "do nextval(counter)",
    "create sequence untouched minvalue -5 start with -5 nocache",
    ("create table numbered (id int default nextval(counter), `it's` int default (next value for untouched), v varchar(99)"
    " default 'nextval(`{db}`.`counter`)')"),
    "insert into numbered (v) values ('a'), ('b')",
    "create view next_one as select nextval(counter) as n",
    "create table versioned (id int primary key, x float) with system versioning",
    "insert into versioned values (1, 1.1), (2, 2.2)",
    "update versioned set x = 3.3",
    "delete from versioned where id = 2",
    ("create table versioned_named (id int primary key, x int, `from it` timestamp(6) generated always as row start,"
    " upto timestamp(6) generated always as row end invisible, period for system_time (`from it`, upto)) with system versioning"),
    "insert into versioned_named (id, x) values (1, 1)",
    "update versioned_named set x = 2",
    ("create table versioned_parts (id int primary key, x int, y int without system versioning) with system versioning"
    " partition by system_time (partition old history, partition now current)"),
    "insert into versioned_parts values (1, 1, 1)",
    "update versioned_parts set x = 2",
    "create table versioned_sequence (id int default nextval(counter), x int) with system versioning",
    "insert into versioned_sequence (x) values (1)",
    "update versioned_sequence set x = 2",
    "create table period (id int, s date, e date, period for p (s, e), unique (id, p without overlaps))",
    "insert into period values (1, '2020-01-01', '2021-01-01'), (1, '2021-01-01', '2022-01-01')",
    ("create table of_today (id int primary key, born date, age int as (timestampdiff(day, born, now())) virtual,"
    " place varchar(200) as (concat(database(), connection_id(), rand())) virtual)"),
    "insert into of_today (id, born) values (1, '2000-01-01')",
    "create table packed (id int primary key, t text compressed, b varbinary(9000) compressed) page_compressed=1",
    "insert into packed values (1, repeat('x', 5000), repeat(0xff00, 3000))",
    "create table long_unique (b blob unique, key_is_ignored int, key i (key_is_ignored) ignored)",
    "insert into long_unique values (repeat('x', 5000), 1)",
    "create table checks (a int check (a > 0), j json)",
    "create or replace function counted() returns int return nextval(counter)",
    ("create aggregate function total(x int) returns int begin declare t int default 0; declare continue handler for not found"
    " return t; loop fetch group next row; set t = t + x; end loop; end"),
    "set sql_mode = 'ORACLE'",
    "create package tools as function one return int; procedure two; end",
    "create package body tools as function one return int as begin return 1; end; procedure two as begin select 2; end; end",
    "create procedure by_oracle(a in int) as begin select a; end",
    "set sql_mode = ''",
    "create view on_definer_gone as select id from definer_gone",
    "create definer=gone@localhost view sequence_gone as select nextval(counter) as n, p.id from parent p",
)  # fmt: skip
MYSQL: Sequence[str] = (
    (
        "create table functional (id int, a varchar(20), j json, key by_lower ((lower(a))), key inv (id) invisible,"
        " key many ((cast(j->'$[*]' as unsigned array))))"
    ),
    "insert into functional values (1, 'Ab', '[1, 2]')",
    "create table unenforced (id int, constraint later check (id > 5) not enforced)",
    "insert into unenforced values (1)",
    "create table located (id int primary key, p point not null srid 4326, spatial key (p))",
    "insert into located values (1, st_srid(point(9.1, 50.2), 4326))",
    "create table measured (a int, b int)",
    "insert into measured values (1, 1), (2, 3), (4, 5)",
    "analyze table measured update histogram on a, b with 7 buckets",
    "create table attributed (id int primary key, x int secondary_engine_attribute '{}') comment 'x' autoextend_size = 4M",
    "set sql_generate_invisible_primary_key = 1",
    "create table key_made (a int)",
    "insert into key_made values (1), (2)",
    "set sql_generate_invisible_primary_key = 0",
)
#: With the first MySQL version that supports it; the definitions of libraries and duality views contain the name of the database.
MYSQL_NEW: Sequence[tuple[tuple[int, int, int], str]] = (
    ((9, 0, 0), "create table placed (id int primary key, v vector(3) not null)"),
    ((9, 0, 0), "insert into placed values (1, string_to_vector('[1, 2, -3.5]'))"),
    ((9, 2, 0), "create library `odd ``lib` comment 'it''s' language javascript as $$ export function f(n) { return \"it's;\" } $$"),
    ((9, 2, 0), ("create function by_library(n int) returns int deterministic language javascript using (`odd ``lib` as l)"
     " as $$ return n $$")),
    ((9, 2, 0), "create procedure of_library() language javascript using (`{db}`.`odd ``lib`) as $$ let x = '`{db}`.`x`' $$"),
    ((9, 4, 0), ("create json relational duality view duality as select json_duality_object(with (insert, update, delete)"
     " '_id': p.id, 'child': p.child, 'children': (select json_arrayagg(json_duality_object('of': c.id)) from child c"
     " where c.parent = p.id)) from parent p")),
    ((9, 7, 0), "create materialized view materialized as select id from parent where id < 9"),
)  # fmt: skip

WORDPRESS_TABLES = """\
create table wp_users (ID bigint primary key auto_increment, user_login varchar(60) not null, user_pass varchar(255) not null,
  user_nicename varchar(50) not null, user_email varchar(100) not null, user_url varchar(100) not null,
  user_registered datetime, user_activation_key varchar(255) not null, user_status int not null default 0, display_name varchar(250) not null);
create table wp_usermeta (umeta_id bigint primary key auto_increment, user_id bigint not null, meta_key varchar(255), meta_value longtext);
create table wp_options (option_id bigint primary key auto_increment, option_name varchar(191) unique, option_value longtext not null,
  autoload varchar(20) not null default 'yes');
create table wp_posts (ID bigint primary key auto_increment, post_author bigint, post_title text, post_content longtext, post_status varchar(20),
  post_password varchar(255), guid varchar(255));
"""
