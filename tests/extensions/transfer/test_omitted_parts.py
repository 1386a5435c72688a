"""Parts of the source that a derived schema lacks are listed by the plan, and defaults have the form of the copied values."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest

from dbctl.url import parse_url
from tests import servers
from tests.extensions.transfer.test_json import run_sql


def list_omissions(answer, source, destination):
    plan = answer("--url", f"main={source}", "transfer", "plan", "--to", destination)["data"]
    return {(part["kind"], part["name"], part["table"]): part["reason"] for part in plan["omissions"]}


@pytest.mark.parametrize("engine", ["sqlite", "mysql"])
def test_domains(answer, databases, tmp_path, engine):
    source = databases("postgresql", tmp_path)
    run_sql(
        source,
        "create domain positive as integer default 7 not null check (value > 0)",
        "create domain small as positive check (value < 100)",
        "create table t (id int primary key, a positive, b small)",
    )
    reason = "that of domain positive is left out"
    omissions = list_omissions(answer, source, databases(engine, tmp_path))
    assert omissions == {
        ("check", "a: CHECK ((VALUE > 0))", "t"): reason,
        ("default", "a: 7", "t"): reason,
        ("not null", "a: NOT NULL", "t"): reason,
        ("check", "b: CHECK ((VALUE > 0))", "t"): "that of domain small is left out",
        ("check", "b: CHECK (((VALUE)::integer < 100))", "t"): "that of domain small is left out",
        **{key: value for key, value in omissions.items() if key[1] == "b: 7"},
    }


def test_tables_of_other_schemas_to_which_tables_refer(answer, databases, tmp_path):
    source, other = databases("postgresql", tmp_path), databases("postgresql", tmp_path)
    ((schema,),) = run_sql(other, "select current_schema()")
    run_sql(other, "create table account (id int primary key)", "create table unrelated (id int)")
    run_sql(source, f"create table t (id int primary key, account int references {schema}.account (id))")
    omissions = list_omissions(answer, source, str(tmp_path / "to.db"))
    assert omissions["table", "account", ""] == f"it is in schema {schema}, which is not in the search path"
    assert ("table", "unrelated", "") not in omissions
    with closing(servers.connection(parse_url(source))) as db:
        db.execute("drop table t")
        db.commit()


def test_tables_of_all_other_schemas_if_the_address_names_none(answer, tmp_path):
    with servers.postgresql_database(encoding="UTF8") as url:
        run_sql(
            servers.text(url),
            "create table t (id int primary key)",
            "create schema other",
            "create table other.t (id int)",
        )
        assert list_omissions(answer, servers.text(url), str(tmp_path / "to.db")) == {
            ("table", "t", ""): "it is in schema other, which is not in the search path"
        }
        assert list_omissions(answer, f"{servers.text(url)}?schema=public", str(tmp_path / "to.db")) == {}


@pytest.mark.mariadb
def test_history_of_versioned_tables(answer, databases, tmp_path):
    source = databases("mysql", tmp_path)
    run_sql(source, "create table price (id int primary key) with system versioning")
    omissions = list_omissions(answer, source, str(tmp_path / "to.db"))
    assert omissions["system versioning", "price", ""] == "its earlier rows are not copied"


@pytest.mark.postgresql(18)
def test_constraints_of_periods_and_those_that_are_not_enforced(answer, databases, tmp_path):
    source, file = databases("postgresql", tmp_path), tmp_path / "to.db"
    run_sql(
        source,
        "create table stay (rooms int4range, during daterange, nights int generated always as (upper(during) - lower(during)) virtual)",
        "alter table stay add constraint apart primary key (rooms, during without overlaps)",
        "create table meal (id int primary key, rooms int4range, during daterange, price int)",
        "alter table meal add constraint within foreign key (rooms, period during) references stay (rooms, period during)",
        "alter table meal add constraint paid check (price > 0) not enforced",
        "insert into stay values ('[1,3)', '[2026-01-01,2026-01-05)'), ('[1,3)', '[2026-01-05,2026-01-09)')",
        "insert into meal values (1, '[1,3)', '[2026-01-04,2026-01-06)', -1)",
    )
    reason = "exclusion constraints, those of periods, and those that are not enforced are left out"
    assert list_omissions(answer, source, str(file)).items() >= {
        ("constraint", "apart", "stay"): reason,
        ("constraint", "within", "meal"): reason,
        ("constraint", "paid", "meal"): reason,
    }.items()  # fmt: skip
    copied = answer("--url", f"main={source}", "transfer", "run", "--to", str(file))["data"]
    assert copied["rows"] == 3
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("select price from meal").fetchall() == [(-1,)]


KEYS = (
    "create table site (tenant int, id int, primary key (tenant, id))",
    "create table page (id int primary key, tenant int, site int)",
    "create table note (id int primary key, tenant int default 1, site int default 1)",
    "alter table note add foreign key (tenant, site) references site match full on delete set default",
    "insert into site values (1, 1), (1, 2)",
    "insert into page values (1, 1, 2)",
)
PAGE_KEY = "alter table page add foreign key (tenant, site) references site on delete set null"


def create_listed_key(source):
    """Create a foreign key of which a deletion clears one column, as servers since PostgreSQL 15 can."""
    if run_sql(source, "select current_setting('server_version_num')::int") < [(150_000,)]:
        pytest.skip("no lists of columns")
    run_sql(source, *KEYS, f"{PAGE_KEY} (site)")


@pytest.mark.parametrize("engine", ["sqlite", "mysql"])
def test_a_deletion_clears_no_further_columns_of_a_foreign_key(answer, databases, tmp_path, engine):
    source, destination = databases("postgresql", tmp_path), databases(engine, tmp_path)
    create_listed_key(source)
    omissions = list_omissions(answer, source, destination)
    assert {
        ("foreign key action", "tenant, site", "page"),
        ("foreign key match", "tenant, site", "note"),
    } <= {*omissions}
    assert (("foreign key action", "tenant, site", "note") in omissions) is (engine == "mysql")
    answer("--url", f"main={source}", "transfer", "run", "--to", destination)
    delete = ["delete from site where id = 2"]
    if engine == "sqlite":
        delete.insert(0, "pragma foreign_keys = on")
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        run_sql(destination, *delete)
    assert run_sql(destination, "select tenant, site from page") == [(1, 2)]


def test_updates_of_mariadb_do_not_follow_a_key_to_a_column_with_null(answer, databases, tmp_path):
    source, destination = databases("postgresql", tmp_path), databases("mysql", tmp_path)
    run_sql(
        source,
        "create table site (id int primary key, code int unique, name int not null unique)",
        "create table page (id int primary key, code int not null references site (code) on update cascade,"
        " name int not null references site (name) on update cascade)",
        "insert into site values (1, 5, 6)",
        "insert into page values (1, 5, 6)",
    )
    is_mariadb = "MariaDB" in run_sql(destination, "select version()")[0][0]
    omissions = list_omissions(answer, source, destination)
    assert (("foreign key action", "code", "page") in omissions) is is_mariadb
    assert ("foreign key action", "name", "page") not in omissions
    answer("--url", f"main={source}", "transfer", "run", "--to", destination)
    run_sql(destination, "update site set name = 7")
    assert run_sql(destination, "select code, name from page") == [(5, 7)]
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        run_sql(destination, "delete from site")


def test_schema_diff_compares_the_columns_that_a_deletion_clears(answer, databases, tmp_path):
    first, second = databases("postgresql", tmp_path), databases("postgresql", tmp_path)
    create_listed_key(first)
    run_sql(second, *KEYS, PAGE_KEY)
    result = answer("schema", "diff", first, second, "--check", status=4)["data"]
    assert [difference["name"] for difference in result["differences"]] == ["an option of page"]


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_default_of_a_time_has_the_form_of_the_copied_values(answer, databases, tmp_path, engine):
    source, destination = databases(engine, tmp_path), tmp_path / "to.db"
    run_sql(
        source,
        "create table t (id int primary key, at timestamp default current_timestamp)",
        "insert into t values (1, '2026-01-02 03:04:05')",
    )
    answer("--url", f"main={source}", "transfer", "run", "--to", str(destination))
    rows = run_sql(
        f"sqlite:///{destination}", "insert into t (id) values (2)", "select at from t order by id"
    )
    forms = {re.sub(r"\d", "0", at) for (at,) in rows}
    assert len(forms) == 1


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_backslashes_and_quotes_in_expressions_of_mysql(answer, databases, tmp_path, engine):
    source, destination = databases("mysql", tmp_path), databases(engine, tmp_path)
    run_sql(
        source,
        "create table t (id int primary key, path varchar(20) default 'C:\\\\it''s\n\"',"
        " kind varchar(9) check (kind in ('a\\\\b', 'it''s')),"
        " shown varchar(9) generated always as (coalesce(kind, 'no\\\\''')) stored)",
        "insert into t (id, kind) values (1, 'a\\\\b'), (2, 'it''s'), (3, null)",
    )
    assert {kind for kind, _, _ in list_omissions(answer, source, destination)} <= {"collation"}
    answer("--url", f"main={source}", "transfer", "run", "--to", destination)
    added = ("insert into t (id) values (4)", "select path, kind, shown from t order by id")
    rows = run_sql(source, *added)
    assert "\\" in rows[0][0]
    assert "\n" in rows[0][0]
    assert run_sql(destination, *added) == rows
    with pytest.raises(Exception, match=r"(?i)check"):
        run_sql(destination, "insert into t (id, kind) values (5, 'other')")


def test_texts_in_expressions_of_mysql_are_carried(answer, databases, tmp_path):
    source, destination = databases("mysql", tmp_path), str(tmp_path / "to.db")
    word = "plain" if servers.mysql_server().is_mariadb else "it's"
    sql = word.replace("'", "''")
    run_sql(
        source,
        f"create table t (id int primary key, kind varchar(9) check (kind in ('a', '{sql}')),"
        f" shown varchar(9) generated always as (coalesce(kind, 'no{sql}')) stored, note varchar(9) default ('{sql}'))",
        f"insert into t (id, kind) values (1, '{sql}'), (2, null)",
    )
    kinds = {kind for kind, _, _ in list_omissions(answer, source, destination)}
    assert kinds <= {"collation"}
    answer("--url", f"main={source}", "transfer", "run", "--to", destination)
    with closing(sqlite3.connect(destination)) as copy:
        assert copy.execute("select * from t").fetchall() == [
            (1, word, word, word),
            (2, None, f"no{word}", word),
        ]
        copy.execute("insert into t (id, kind) values (3, 'a')")
        assert copy.execute("select shown, note from t where id = 3").fetchall() == [("a", word)]
        with pytest.raises(sqlite3.IntegrityError):
            copy.execute("insert into t (id, kind) values (4, 'b')")


def test_checks_of_mysql_that_are_not_enforced_are_left_out(answer, databases, tmp_path):
    if servers.mysql_server().is_mariadb:
        pytest.skip("MariaDB enforces all checks")
    source, destination = databases("mysql", tmp_path), str(tmp_path / "to.db")
    run_sql(
        source,
        "create table t (id int primary key, size int, check (size > 0), check (size < 9) not enforced)",
        "insert into t values (1, 10)",
    )
    ((kind, check, table),) = list_omissions(answer, source, destination)
    assert (kind, table) == ("check", "t")
    assert "9" in check
    answer("--url", f"main={source}", "transfer", "run", "--to", destination)
    with closing(sqlite3.connect(destination)) as copy:
        assert copy.execute("select * from t").fetchall() == [(1, 10)]
        with pytest.raises(sqlite3.IntegrityError):
            copy.execute("insert into t values (2, 0)")


COMPUTED = """
create table t (id int primary key, name text, price numeric(10,2), is_new boolean,
  folded text generated always as (lower(name)) stored,
  twice int generated always as (id * 2) stored,
  code text generated always as (name || '-' || id) stored,
  label text generated always as (name || price::text) stored,
  rounded int generated always as (price::int) stored,
  kind text generated always as (case when is_new then name else 'old' end || '!') stored)"""


@pytest.mark.parametrize("engine", ["sqlite", "mysql"])
def test_generated_columns_are_copied_or_have_the_same_values(answer, databases, tmp_path, engine):
    source, destination = databases("postgresql", tmp_path), databases(engine, tmp_path)
    run_sql(
        source,
        COMPUTED,
        "insert into t (id, name, price, is_new) values (1, 'ÄB', 1.50, true), (2, 'c', 0.10, null)",
    )
    omissions = list_omissions(answer, source, destination)
    assert {name for kind, name, _ in omissions if kind == "generated column"} == {"label", "rounded"}
    words = ("--url", f"main={source}", "transfer")
    copied = answer(*words, "run", "--to", destination)["data"]
    computed = {"sqlite": ["t.folded"], "mysql": []}[engine]  # SQLite folds only letters of ASCII
    assert copied["computed_differently"] == computed
    verified = answer(*words, "verify", "--to", destination, status=4 if computed else 0)["data"]
    assert [part["name"] for part in verified["objects"]] == computed
    columns = "select twice, code, label, rounded, kind from t order by id"
    assert run_sql(destination, columns) == run_sql(source, columns)


@pytest.mark.parametrize("engine", ["sqlite", "mysql"])
def test_defaults_of_times_with_a_zone_are_carried_in_utc(answer, databases, tmp_path, engine):
    source, destination = databases("postgresql", tmp_path), databases(engine, tmp_path)
    run_sql(
        source,
        "create table t (id int primary key, at timestamptz default '2020-06-01 12:00:00+02')",
        "insert into t (id) values (1)",
    )
    answer("--url", f"main={source}", "transfer", "run", "--to", destination)
    run_sql(destination, "insert into t (id) values (2)")
    ((first,), (second,)) = run_sql(destination, "select cast(at as char) from t order by id")
    assert (first[:10], second[:10]) == ("2020-06-01", "2020-06-01")
    assert (first[11:19], second[11:19]) == ("10:00:00", "10:00:00")


def test_generated_columns_of_mariadb_with_the_text_of_char(answer, databases, tmp_path):
    source, destination = databases("postgresql", tmp_path), databases("mysql", tmp_path)
    run_sql(
        source,
        "create table t (id int primary key, code char(5), label text generated always as (code || '!') stored,"
        " is_new boolean generated always as (code = 'new') stored)",
        "insert into t (id, code) values (1, 'new'), (2, 'a')",
    )
    omissions = list_omissions(answer, source, destination)
    names = ["label", "is_new"] if servers.mysql_server().is_mariadb else []
    assert [name for kind, name, _ in omissions if kind == "generated column"] == names
    answer("--url", f"main={source}", "transfer", "run", "--to", destination)
    assert run_sql(destination, "select label, is_new from t order by id") == [("new!", 1), ("a!", 0)]


def test_foreign_keys_of_sqlite_without_a_unique_target_are_left_out(answer, databases, tmp_path):
    source, destination = str(tmp_path / "from.db"), databases("postgresql", tmp_path)
    run_sql(
        f"sqlite:///{source}",
        "create table tag (id integer primary key, name text)",
        "create table post (id integer primary key, tag text references tag (name))",
        "create table note (id integer primary key, post int references post (id))",
        "insert into post values (1, 'x')",
        "insert into note values (1, 9)",
    )
    plan = answer("--url", f"main={source}", "transfer", "plan", "--to", destination, status=4)["data"]
    assert [(part["kind"], part["name"], part["table"]) for part in plan["omissions"]] == [
        ("foreign key", "tag", "post")
    ]
    assert [(problem["table"], problem["column"]) for problem in plan["problems"]] == [("note", "post")]
    run_sql(f"sqlite:///{source}", "update note set post = 1")
    answer("--url", f"main={source}", "transfer", "run", "--to", destination)
    assert run_sql(destination, "select * from note") == [(1, 1)]


def test_partitions_invisible_columns_and_properties_of_views_of_mysql(answer, databases, tmp_path):
    source = databases("mysql", tmp_path)
    run_sql(
        source,
        "create table t (id int primary key, hidden int invisible default 3) partition by range (id) (partition p values less than maxvalue)",
        "create sql security invoker view v as select id from t where id < 9 with cascaded check option",
    )
    omissions = list_omissions(answer, source, databases("postgresql", tmp_path))
    assert {kind for kind, _, table in omissions if table == "t"} == {"column", "partitions"}
    assert omissions["column", "hidden", "t"] == "it becomes visible"
    assert "invoker with cascaded check option" in omissions["view", "v", ""]


def test_properties_of_views_of_postgresql(answer, databases, tmp_path):
    source = databases("postgresql", tmp_path)
    run_sql(
        source,
        "create table t (id int primary key)",
        "create view v with (security_barrier) as select id from t with local check option",
        "create view plain as select id from t",
    )
    omissions = list_omissions(answer, source, databases("mysql", tmp_path))
    assert [key for key in omissions if key[0] == "view"] == [("view", "v", "")]
    assert "check_option=local" in omissions["view", "v", ""]
