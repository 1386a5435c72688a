"""Schemas of MySQL and MariaDB: tables and keys, scripts, scratch databases, and checks."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract.database import Condition
from dbctl.engines.contract.fulltext import TextIndexSpec
from dbctl.engines.mysql.statements import SCRIPTS
from dbctl.errors.connection import CorruptError, PrivilegeMissingError, QueryFailedError
from dbctl.errors.usage import SchemaMismatchError
from dbctl.model import Secret
from tests import servers
from tests.engines.conftest import MySQLFixture


@pytest.fixture
def other_database():
    """Create another database on the same server."""
    with servers.mysql_database() as url:
        database = MySQLFixture(url)
        with closing(database.connection):
            yield database
            for session in database.opened:
                session.close()


def test_only_tables_and_views_of_the_database_are_listed(mysql, other_database):
    other_database.execute("create table hidden (id integer)")
    mysql.execute("create table shown (id integer)")
    mysql.execute("create view seen as select id from shown")
    if servers.mysql_server().is_mariadb:
        mysql.execute("create sequence s")
    mysql.execute("create temporary table passing (id integer)")
    tables = mysql.reader().tables()
    assert {name: table.is_view for name, table in tables.items()} == {"shown": False, "seen": True}


def test_required_columns_have_no_default(mysql):
    mysql.execute(
        """create table t (id serial primary key, b text not null, c varchar(9) not null default 'x',
        d varchar(20) generated always as (concat(b, 'x')) stored, e integer not null default (1 + 1), f integer default null,
        g timestamp not null default now() on update now(), h datetime(3) not null)"""
    )
    columns = mysql.reader().tables()["t"].columns
    assert [name for name, column in columns.items() if column.required] == ["b", "h"]
    assert [name for name, column in columns.items() if column.is_generated] == ["d"]
    assert [name for name, column in columns.items() if column.is_primary_key] == ["id"]
    id_type = "BIGINT(20) UNSIGNED" if servers.mysql_server().is_mariadb else "BIGINT UNSIGNED"
    assert (columns["id"].type, columns["c"].type) == (id_type, "VARCHAR(9)")


def test_foreign_keys_are_listed_with_delete_action(mysql):
    mysql.execute('create table "Parent" ("Id" integer primary key, a integer, unique (a, "Id"))')
    mysql.execute("create table parent (id integer primary key)")
    mysql.execute(
        """create table child (p integer, q integer, r integer, s integer,
        foreign key (p) references "Parent" ("Id") on delete restrict,
        foreign key (q, r) references "Parent" (a, "Id") on delete set null,
        foreign key (s) references "Parent" ("Id") on delete cascade)"""
    )
    keys = {tuple(key.columns): (list(key.to), key.on_delete) for key in mysql.reader().references("Parent")}
    assert keys == {
        ("p",): (["Id"], "RESTRICT"),
        ("q", "r"): (["a", "Id"], "SET NULL"),
        ("s",): (["Id"], "CASCADE"),
    }
    assert mysql.reader().references("parent") == []


def test_updatable_view_accepts_rows(mysql):
    mysql.execute("create table t (id integer primary key, a text)")
    mysql.execute("create view v as select id, a from t")
    writer = mysql.writer()
    with writer.transaction():
        assert writer.insert_many("v", ["id", "a"], [(1, "x"), (2, "y")]) == 2
        assert writer.update("v", {"a": "z"}, [Condition("id", "=", 1)]) == 1
    assert writer.select("t", ["a"]) == [("z",), ("y",)]


def test_insert_with_generated_column_and_composite_key(mysql):
    mysql.execute("create table t (a integer, b integer, c integer as (a + b) stored, primary key (b, a))")
    writer = mysql.writer()
    with writer.transaction():
        assert writer.insert("t", {"a": 1, "b": 2}, returning="c") == 3
    assert writer.select("t", ["a", "b", "c"]) == [(1, 2, 3)]


# A whole schema ----------------------------------------------------------------------------------------------------

STATEMENTS = [
    "create table p (id integer primary key, n integer unique)",
    """create table t (id integer auto_increment primary key, m enum('happy', 'sad') default 'sad',
       a varchar(30) collate utf8mb4_bin, b varchar(40) generated always as (concat(a, 'x')) stored, j json,
       p integer, at timestamp not null default now() on update now(),
       constraint own foreign key (p) references p (id) on delete cascade, check (a <> ''))""",
    "create index t_a on t (a desc, b(5))",
    "create fulltext index t_b on t (b)",
    "create view v as select a from t where m = 'sad'",
    "create trigger g before insert on t for each row set new.a = lower(new.a)",
]


def test_fingerprint_is_independent_of_creation_order(mysql, other_database):
    for database, order in ((mysql, range(6)), (other_database, [0, 1, 5, 4, 3, 2])):
        for index in order:
            database.execute(STATEMENTS[index])
    schema = mysql.reader().schema_reader.schema()
    assert schema == other_database.reader().schema_reader.schema()
    table = next(item for item in schema.tables if item.name == "t")
    assert [(item.name, list(item.columns)) for item in table.indexes] == [
        ("own", ["p"]),
        ("t_a", ["a desc", "b(5)"]),
        ("t_b", ["b using fulltext"]),
    ]
    assert (list(table.key), table.references[0].on_delete) == (["id"], "CASCADE")
    assert [(item.kind, item.name) for item in schema.codes] == [("view", "v"), ("trigger", "g")]
    assert mysql.url.path not in repr(schema)
    assert table.columns[1].type == "ENUM('happy','sad')"
    assert table.columns[3].generated.endswith(" stored")


@pytest.mark.parametrize(
    "change",
    [
        "alter table t modify m enum('happy', 'sad', 'meh') default 'sad'",
        "alter table t modify a varchar(30) collate utf8mb4_bin not null",
        "alter table t modify a varchar(30) collate utf8mb4_general_ci",
        "alter table t alter m set default 'happy'",
        "alter table t modify p integer comment 'a comment', add column z integer",
        "alter table t drop foreign key own",
        "drop index t_b on t",
        "alter table t add check (a <> 'b')",
        "alter table p drop index n",
        "alter table p engine = MyISAM",
        "alter table p convert to character set latin1",
        "create or replace view v as select a from t where m = 'happy'",
        "alter sql security invoker view v as select a from t where m = 'sad'",
        "create or replace view v as select a from t where m = 'sad' with check option",
        "drop trigger g; create trigger g before insert on t for each row set new.a = upper(new.a)",
        "alter table t modify b varchar(40) generated always as (concat(a, 'x')) stored invisible",
        pytest.param(
            "alter algorithm = temptable view v as select a from t where m = 'sad'", marks=pytest.mark.mariadb
        ),
    ],
)
def test_schema_changes_change_the_fingerprint(mysql, change):
    for sql in STATEMENTS:
        mysql.execute(sql)
    if "engine" in change or "convert" in change:
        mysql.execute("alter table t drop foreign key own")
    before = mysql.reader().schema_reader.fingerprint()
    for sql in change.split("; "):
        mysql.execute(sql)
    assert mysql.reader().schema_reader.fingerprint() != before


def test_schemas_with_and_without_an_index_that_queries_read_differ(mysql):
    mysql.execute("create table t (id integer primary key, a integer, key a (a))")
    before = mysql.reader().schema_reader.fingerprint()
    hidden = "ignored" if servers.mysql_server().is_mariadb else "invisible"
    mysql.execute(f"alter table t alter index a {hidden}")
    assert mysql.reader().schema_reader.fingerprint() != before


def test_full_text_index_that_queries_do_not_read_is_broken(mysql):
    mysql.execute("create table t (id integer primary key, a text, fulltext key words (a))")
    index = TextIndexSpec(
        table="t", id="id", columns=["a"], index_name="words", index_table="t_words", key="id", trigger_pattern="", language="english",
        joined_texts=[], marker=None,
    )  # fmt: skip
    assert mysql.reader().fulltext.text_index_state(index).state == "valid"
    hidden = "ignored" if servers.mysql_server().is_mariadb else "invisible"
    mysql.execute(f"alter table t alter index words {hidden}")
    state = mysql.reader().fulltext.text_index_state(index)
    assert (state.state, state.reason) == ("broken", "no query reads it, because it is invisible")


def test_schemas_with_and_without_an_enforced_check_differ(mysql):
    if servers.mysql_server().is_mariadb:
        pytest.skip("MariaDB enforces all checks")
    mysql.execute("create table t (id integer primary key, constraint small check (id < 9))")
    before = mysql.reader().schema_reader.fingerprint()
    mysql.execute("alter table t alter check small not enforced")
    assert mysql.reader().schema_reader.fingerprint() != before


@pytest.mark.mariadb
def test_schemas_with_and_without_history_differ(mysql):
    mysql.execute("create table t (id integer primary key)")
    before = mysql.reader().schema_reader.fingerprint()
    mysql.execute("alter table t add system versioning")
    assert mysql.reader().schema_reader.fingerprint() != before


# Scripts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "select 1; select ';'; select \"a;b\"; select `c;d`",
            ["select 1;", "select ';';", 'select "a;b";', "select `c;d`;"],
        ),
        ("-- one; two\nselect 1 # three;\n; /* four; */ select 2", ["select 1 # three;\n;", "select 2;"]),
        ("select 5--4; select 2", ["select 5--4;", "select 2;"]),
        ("\ufeffselect 1;;; ;select 2;", ["select 1;", "select 2;"]),
        ("/*!40101 set sql_notes = 0 */; select 1", ["/*!40101 set sql_notes = 0 */;", "select 1;"]),
        (
            "set session sql_mode = concat(@@session.sql_mode, ',ORACLE');set @mode = @@sql_mode;",
            ["set session sql_mode = concat(@@session.sql_mode, ',ORACLE');", "set @mode = @@sql_mode;"],
        ),
        ("select 'it''s; ok';\r\nselect 2;", ["select 'it''s; ok';", "select 2;"]),
        ("", []),
    ],
)
def test_script_is_split_into_statements(text, expected):
    assert [sql for _, sql in SCRIPTS.split(text)] == expected


BODIES = """create trigger g before insert on t for each row begin
  if new.a is null then set new.a = 'x'; end if;
  case new.a when 'y' then set new.a = 'z'; else begin end; end case;
  set new.b = case when new.a = 'x' then 1 else 2 end;
  while false do set new.b = 3; end while;
end;
create procedure q() begin declare n integer; repeat set n = 1; until true end repeat; end;
create trigger h after insert on t for each row set @last = new.b;
select 2;"""


def test_trigger_body_is_one_statement(mysql):
    statements = SCRIPTS.split(BODIES)
    assert [line for line, _ in statements] == [1, 7, 8, 9]
    mysql.execute("create table t (a varchar(9), b integer)")
    writer = mysql.writer()
    with writer.scripts.schema_transaction():
        for _, sql in statements[:3]:
            writer.scripts.run_statement(sql)
    with writer.transaction():
        writer.insert("t", {"a": None})
    assert writer.select("t", ["a", "b"]) == [("x", 1)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("select 1;\nselect 'a", "line 2"),
        ("select 1;\ncreate trigger g before insert on t for each row begin set new.a = 1;", "line 2"),
        ("/* never closed", "comment"),
        ("select `a", "line 1"),
        ("begin; select 1;", "BEGIN"),
        ("start transaction; select 1;", "START TRANSACTION"),
        ("select 1;\nCOMMIT;", "line 2: COMMIT"),
        ("lock tables t write;", "LOCK TABLES"),
        ("use other;", "USE"),
        ("set names latin1;", "SET NAMES"),
        ("delimiter //\ncreate table t (a integer)//", "DELIMITER"),
        ("insert into t values ('it\\'s');", "line 1"),
        ("insert into t values ('a\\nb');", "backslash"),
    ],
)
def test_invalid_scripts_are_refused_with_line(text, reason):
    with pytest.raises(ValueError, match=reason):
        SCRIPTS.split(text)


def test_failed_statement_keeps_earlier_ones_and_resets_session(mysql):
    writer = mysql.writer()
    with pytest.raises(QueryFailedError), writer.scripts.schema_transaction():
        writer.scripts.run_statement("create table a (id integer primary key);")
        writer.scripts.run_statement("insert into a values (1);")
        writer.scripts.run_statement("set foreign_key_checks = 0;")
        writer.scripts.run_statement("nonsense;")
    assert list(writer.tables()) == ["a"]
    assert (writer.count("a"), writer.query("select @@foreign_key_checks")) == (1, [(1,)])
    with (
        pytest.raises(RuntimeError, match="inside another"),
        writer.transaction(),
        writer.scripts.schema_transaction(),
    ):
        pass
    with pytest.raises(QueryFailedError), writer.scripts.schema_transaction():
        writer.scripts.run_statement("commit")


# Scratch databases ----------------------------------------------------------------------------------------------------------


def list_scratch_databases(database) -> set[str]:
    return {name for (name,) in database.rows("show databases") if name.startswith("dbctl_scratch_")}


def test_scratch_database_is_dropped_and_has_same_collation(mysql):
    mysql.execute(f'alter database "{mysql.url.path}" character set latin1 collate latin1_bin')
    mysql.execute("create table t (a varchar(9))")
    with closing(registry.load_engine(mysql.url.engine).open_scratch(mysql.url, "app/user")) as scratch:
        assert scratch.tables() == {}
        with scratch.scripts.schema_transaction():
            scratch.scripts.run_statement("create table t (a varchar(9))")
        assert scratch.schema_reader.schema() == mysql.reader().schema_reader.schema()
        with scratch.transaction():
            scratch.insert("t", {"a": "x"})
        name = scratch.connection.session.database
        assert name in list_scratch_databases(mysql)
    assert name not in list_scratch_databases(mysql)
    assert mysql.reader().count("t") == 0


def test_scratch_without_rights_has_a_grant_hint(mysql):
    name = f"u{mysql.url.path[-12:]}"
    mysql.execute(f"create user {name} identified by 'pw'")
    try:
        mysql.execute(f"grant all on {mysql.url.path}.* to {name}")
        url = structs.replace(mysql.url, user=name, password=Secret("pw"))
        with pytest.raises(PrivilegeMissingError) as caught:
            registry.load_engine(url.engine).open_scratch(url, "app/user")
        hint = caught.value.hint
        mysql.execute(hint[hint.index("GRANT") :].rstrip(";"))
        registry.load_engine(url.engine).open_scratch(url, "app/user").close()
    finally:
        mysql.execute(f"drop user {name}")


# Checks --------------------------------------------------------------------------------------------------------------


def test_orphaned_rows_are_found(mysql):
    mysql.execute("create table p (a integer, b integer, primary key (a, b))")
    mysql.execute(
        "create table c (id integer primary key, a integer, b integer, foreign key (a, b) references p (a, b))"
    )
    mysql.execute("create table n (a integer, b integer, foreign key (a, b) references p (a, b))")
    mysql.execute("set foreign_key_checks = 0")
    mysql.execute("insert into c values (1, 1, 1), (2, 1, null), (3, 9, 9)")
    mysql.execute("insert into n values (5, 5)")
    reader = mysql.reader()
    orphans = [
        (orphan.table, list(orphan.columns), orphan.referenced_table, orphan.count, orphan.example)
        for orphan in reader.checks.find_orphaned_rows()
    ]
    assert orphans == [("c", ["a", "b"], "p", 2, "id 1"), ("n", ["a", "b"], "p", 1, None)]
    assert [orphan.table for orphan in reader.checks.find_orphaned_rows("n")] == ["n"]


def test_corrupt_table_is_found():
    server = servers.private_mysql()
    engine, suffix = ("Aria", "MAD") if servers.server_at(server).is_mariadb else ("MyISAM", "MYD")
    with servers.mysql_database(server=server) as url:
        database = MySQLFixture(url)
        with closing(database.connection):
            database.execute(
                f"create table t (id integer primary key, a varchar(9), key own (a)) engine = {engine}"
            )
            database.execute("create table fine (id integer primary key)")
            database.execute("insert into t values (%s, %s)", *[(number, number) for number in range(2000)])
            database.execute("flush tables")
            ((data,),) = database.rows("select @@datadir")
            file = next(Path(data).glob(f"{url.path}/t.{suffix}"))
            content = bytearray(file.read_bytes())
            content[8192 + 100 : 8192 + 4000] = b"\xff" * 3900
            file.write_bytes(content)
            reader = database.reader()
            damage = reader.checks.find_damage()
            assert damage
            assert all(line.startswith("t: ") for line in damage)
            assert reader.checks.find_damage(table="fine") == []
            with pytest.raises(CorruptError):
                reader.select("t", ["a"])
            reader.close()


def test_table_that_merges_others_is_not_damaged(mysql):
    mysql.execute("create table part (id integer, key (id)) engine=myisam")
    mysql.execute("create table whole (id integer, key (id)) engine=merge union=(part)")
    assert mysql.reader().checks.find_damage() == []


def test_table_that_merges_a_missing_one_is_damaged(mysql):
    mysql.execute("create table part (id integer, key (id)) engine=myisam")
    mysql.execute("create table whole (id integer, key (id)) engine=merge union=(part)")
    mysql.execute("create table other (id integer, key (id)) engine=merge union=(part)")
    mysql.execute("drop table part")
    checks = mysql.reader().checks
    assert [line.partition(":")[0] for line in checks.find_damage()] == ["other", "whole"]
    assert [line.partition(":")[0] for line in checks.find_damage(table="whole")] == ["whole"]


def test_table_without_its_file_is_damaged():
    with servers.mysql_database() as url:
        database = MySQLFixture(url)
        with closing(database.connection):
            database.execute("create table t (id integer primary key)")
            database.execute("create table fine (id integer primary key)")
            database.execute("alter table t discard tablespace")
            with closing(database.reader()) as reader:
                with pytest.raises(CorruptError):
                    reader.count("t")
                damage = reader.checks.find_damage()
                assert damage
                assert all(line.startswith("t: ") for line in damage)


@pytest.mark.parametrize(
    ("line", "index"),
    [
        ("t: InnoDB: Index t_a is marked as corrupted", "t_a"),
        ("t: InnoDB: The B-tree of index t_a is corrupted.", "t_a"),
        ("t: Index 't_a' contains 3 entries, should be 4.", "t_a"),
        ("t: InnoDB: Index 'a b' contains 3 entries, should be 4.", "a b"),
        ("t: Corrupt", None),
    ],
)
def test_index_names_in_check_output_are_parsed(mysql, line, index):
    damage = mysql.reader().checks.parse_index_damage(line)
    assert (damage.index if damage else None) == index


def test_check_inside_transaction_is_an_internal_error(mysql):
    mysql.execute("create table t (id integer primary key)")
    writer = mysql.writer()
    with pytest.raises(RuntimeError), writer.transaction():
        writer.checks.find_damage()
    with pytest.raises(SchemaMismatchError):
        writer.checks.find_damage(table="nosuch")
