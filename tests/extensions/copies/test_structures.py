"""Anonymised copies of tables with a history, with row security, with generated columns, and with functions of the app."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest


def read(database, sql):
    return [tuple(row) for row in database.rows(sql)]


def copy(run, destination, *options, status=0):
    assert run("backup", "create")["ok"]
    result = run("copy", "--to", destination.url, "--anonymise", *options)
    assert result["exit_code"] == status, result["error"]
    return result


@pytest.mark.slow
@pytest.mark.mariadb
@pytest.mark.parametrize("club", ["mysql"], indirect=True)
def test_history_of_a_table_has_no_original(club, destination, run, tmp_path):
    club.run(
        "create table notes (id integer primary key, author varchar(60)) with system versioning",
        "insert into notes values (1, 'Ada Quillfeather 00001'), (2, 'Ada Quillfeather 00002')",
        "update notes set author = 'Ada Quillfeather 00003' where id = 1",
        "delete from notes where id = 2",
    )
    assert len(read(club, "select id from notes for system_time all")) == 3
    with (tmp_path / "app" / "club.toml").open("a") as file:
        file.write('"notes.author" = "name"\n')
    copy(run, destination)
    rows = read(destination, "select id, author from notes for system_time all")
    assert [number for number, _ in rows] == [1]
    assert "Quillfeather" not in str(rows)
    destination.run("update notes set author = 'Person x' where id = 1")  # still versioned
    assert len(read(destination, "select id from notes for system_time all")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
def test_forced_row_security_remains_and_all_rows_are_rewritten(club, destination, run):
    club.run(
        "alter table posts enable row level security, force row level security",
        "create policy few on posts using (id <= 3)",
    )
    copy(run, destination)
    assert read(destination, "select count(*) from posts where body like 'Text %'") == [(20,)]
    assert read(destination, "select relrowsecurity, relforcerowsecurity from pg_class where relname = 'posts'") == [(True, True)]  # fmt: skip


def test_generated_columns_and_indexes_of_expressions_follow_the_new_values(club, destination, run):
    stored = "virtual" if club.engine == "sqlite" else "stored"  # an existing SQLite table gets no stored one
    club.run(
        f"alter table members add column upper_name varchar(80) generated always as (upper(full_name)) {stored}"
    )
    if club.engine != "mysql":  # MariaDB has indexes of generated columns instead
        club.run("create unique index members_by_lower on members (lower(login))")
    club.run("create index members_by_upper on members (upper_name)")
    copy(run, destination)
    assert read(destination, "select count(*) from members where upper_name = upper(full_name)") == [(20,)]
    assert read(destination, "select count(*) from members where upper_name like '%QUILL%'") == [(0,)]
    if club.engine == "sqlite":
        assert read(destination, "pragma integrity_check") == [("ok",)]


@pytest.mark.parametrize("club", ["sqlite"], indirect=True)
@pytest.mark.parametrize("addition", ["create index by_fold on members (fold(full_name))", "alter table members add column f text generated always as (fold(full_name)) virtual"])  # fmt: skip
def test_functions_of_the_app_are_refused_and_nothing_is_copied(club, destination, run, addition):
    with closing(sqlite3.connect(club.path)) as connection, connection:
        connection.create_function("fold", 1, lambda text: text and text.lower(), deterministic=True)
        connection.execute(addition)
    result = copy(run, destination, status=1)
    assert "fold" in result["error"]["message"]
    assert not destination.path.exists()


@pytest.mark.parametrize("club", ["sqlite"], indirect=True)
@pytest.mark.parametrize("action", ["replace", "ignore"])
def test_new_value_that_another_row_has_deletes_no_row_and_leaves_no_original(
    club, destination, run, tmp_path, action
):
    club.run(
        f"create table notes (id integer primary key, code integer unique on conflict {action})",
        "with recursive n(i) as (values (1) union all select i + 1 from n where i < 50) insert into notes select i, i from n",
    )
    with (tmp_path / "app" / "club.toml").open("a") as file:
        file.write('"notes.code" = "number"\n')
    result = copy(run, destination, status=6)
    assert "notes.code" in result["error"]["message"]
    assert not destination.path.exists()


@pytest.mark.parametrize("club", ["mysql"], indirect=True)
@pytest.mark.parametrize("charset", ["latin1", "ascii"])
def test_texts_of_other_character_sets_are_rewritten(club, destination, run, tmp_path, charset):
    club.run(
        f"create table notes (id integer primary key, author varchar(60) character set {charset})",
        "insert into notes values (1, 'Ada Quillfeather 00001'), (2, ''), (3, null)",
    )
    with (tmp_path / "app" / "club.toml").open("a") as file:
        file.write('"notes.author" = "name"\n')
    copy(run, destination)
    (name,) = read(destination, "select full_name from members where id = 1")
    assert read(destination, "select author from notes order by id") == [name, ("",), (None,)]


INHERITING = (
    "create table notes (id integer primary key, author varchar(60), about text)",
    "create table letters (recipient varchar(60)) inherits (notes)",
    "insert into notes values (1, 'Ada Quillfeather 00001', '{}')",
    "insert into letters values (1, 'Ada Quillfeather 00001', '{}', 'Ada Quillfeather 00002')",
)


@pytest.mark.slow
@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
def test_rows_of_inheriting_tables_are_rewritten_once(club, destination, run, tmp_path):
    club.run(*INHERITING)
    with (tmp_path / "app" / "club.toml").open("a") as file:
        file.write('"*.author" = "name"\n"letters.recipient" = "name"\n"*.about" = "keep"\n')
    copy(run, destination)
    names = read(destination, "select full_name from members where id in (1, 2) order by id")
    assert read(destination, "select author from only notes") == names[:1]
    assert read(destination, "select author, recipient from letters") == [(names[0][0], names[1][0])]
    run("copy", "--to", destination.url, "--anonymise", "--empty", "notes", "--replace", "--yes")
    assert read(destination, "select recipient from letters") == read(
        destination, "select full_name from members where id = 2"
    )
    assert read(destination, "select count(*) from notes") == [(1,)]


@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
def test_documents_of_a_table_with_inheriting_ones_are_refused(club, destination, run, tmp_path):
    club.run(*INHERITING)
    with (tmp_path / "app" / "club.toml").open("a") as file:
        file.write('"*.author" = "name"\n"letters.recipient" = "name"\n"*.about" = "json"\n')
    assert "notes" in copy(run, destination, status=6)["error"]["message"]


@pytest.mark.parametrize("club", ["mysql"], indirect=True)
def test_rule_that_the_type_of_a_column_lacks_names_the_column(club, destination, run, tmp_path):
    club.run(
        "create table visits (id integer primary key, place point)",
        "insert into visits values (1, point(1, 2))",
    )
    with (tmp_path / "app" / "club.toml").open("a") as file:
        file.write('"visits.place" = "text"\n')
    error = copy(run, destination, status=6)["error"]
    assert error["code"] == "copy-constraint"
    assert "visits.place" in error["message"]


@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
@pytest.mark.parametrize("options", [["--anonymise", "--empty", "far"], ["--sample", "far:id < 0"]])
def test_rows_of_another_server_are_not_changed(club, destination, run, options):
    club.run(
        "create extension postgres_fdw",
        f"create server far foreign data wrapper postgres_fdw options (host '{club.own.host}', port '{club.own.port}', dbname '{club.own.path}')",
        f"create user mapping for public server far options (user '{club.own.user}')",
        "create foreign table far (id integer, name varchar(40)) server far options (table_name 'places')",
    )
    assert read(club, "select id from far") == [(1,)]
    assert run("backup", "create")["ok"]
    assert run("copy", "--to", destination.url, *options)["exit_code"] == 6
    assert read(club, "select id from places") == [(1,)]


@pytest.mark.slow
@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
def test_rules_keep_no_row_that_a_sample_leaves_out(club, destination, run):
    club.run(
        "create rule kept as on delete to posts do instead nothing",
        "create rule logged as on update to posts do also insert into places values (old.id + 100, old.body)",
        "alter table posts enable always rule kept",
    )
    copy(run, destination, "--sample", "posts:id <= 3")
    assert read(destination, "select count(*) from posts") == [(3,)]
    assert read(destination, "select count(*) from places") == [(1,)]
    rules = (
        "select rulename, ev_enabled::text from pg_rewrite where rulename in ('kept', 'logged') order by 1"
    )
    assert read(destination, rules) == read(club, rules)


@pytest.mark.slow
@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
def test_published_table_without_a_key_is_rewritten(club, destination, run, tmp_path):
    club.run(
        "create table notes (author varchar(60))",
        "insert into notes values ('Ada Quillfeather 00001'), ('Ada Quillfeather 00002')",
        "create publication everything for all tables with (publish = 'insert, delete')",
        "create publication columns for table members (id, login)",
        "create publication others for table posts",
    )
    with (tmp_path / "app" / "club.toml").open("a") as file:
        file.write('"notes.author" = "name"\n')
    copy(run, destination, "--sample", "notes:author != x", "--sample", "posts:id <= 3")
    assert read(destination, "select count(*) from notes where author like 'Person %'") == [(2,)]
    assert read(destination, "select relreplident::text from pg_class where relname = 'notes'") == [("d",)]
    publications = (
        "select pubname, pubinsert, pubupdate, pubdelete, pubtruncate from pg_publication order by 1"
    )
    assert read(destination, publications) == read(club, publications)
