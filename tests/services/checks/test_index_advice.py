"""Advice about indexes and slow statements: what is missing or not needed in large tables, and silence about all else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from dbctl.services.checks import index_advice
from tests import servers
from tests.services.checks.test_server import deployment, run_json, server  # noqa: F401 - fixtures

CODES = {"reference-unindexed", "index-duplicate", "index-redundant", "index-unused", "statement-slow"}
CREATE = [
    "create table parents (id integer primary key, code varchar(20) unique)",
    "create table children (id integer primary key, parent integer, grand integer, word varchar(20) unique, other varchar(20), foreign key (parent) references parents (id), foreign key (grand) references parents (id))",
    "create table few (id integer primary key, parent integer, foreign key (parent) references parents (id))",
    "create index few_parent_id on few (parent, id)",
    "create index few_parent on few (parent)",
    "create index children_grand on children (grand)",
    "create index children_other on children (other)",
    "create index children_other_2 on children (other)",
    "create index children_other_word on children (other, word)",
    "create unique index children_word on children (word)",
]
ROWS = 12_000


def fill(run):
    for sql in CREATE:
        run(sql)
    run("insert into parents values (1, 'x')")
    for start in range(0, ROWS, 1000):
        values = ", ".join(f"({row}, 1, 1, 'w{row}', 'o{row % 50}')" for row in range(start, start + 1000))
        run(f"insert into children values {values}")
    run("insert into few values (1, 1)")


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def place(request, tmp_path):
    if request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as file:
            fill(file.execute)
            yield request.param, str(tmp_path / "shop.db"), file.execute
    elif request.param == "postgresql":
        with servers.postgresql_schema() as url, closing(servers.connection(url)) as connection:
            fill(connection.execute)
            connection.execute("analyze")
            yield request.param, servers.text(url), connection.execute
    else:
        with servers.mysql_database() as url, closing(servers.mysql_connection(url)) as connection:

            def run(sql):
                with connection.cursor() as cursor:
                    cursor.execute(sql)
                connection.commit()

            fill(run)
            run("analyze table children, few, parents")
            yield request.param, str(url), run


@pytest.fixture(autouse=True)
def profile(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = 'schema = "dbctl.profile/1"\nname = "shop"\ntitle = "Shop"\n[databases.main]\nengines = ["sqlite", "postgresql", "mysql"]\nneeds = []\n'
    (tmp_path / "shop.toml").write_text(text)


def list_advice(answer, url):
    result = answer("--profile", "shop.toml", "--url", f"main={url}", "doctor", status=None)
    findings = [finding for finding in result["data"]["findings"] if finding["code"] in CODES]
    assert {finding["severity"] for finding in findings} <= {"info"}
    return {finding["code"]: finding for finding in findings}


def test_large_tables_have_advice_until_it_is_followed(answer, place):
    kind, url, run = place
    advice = list_advice(answer, url)
    expected = {"index-duplicate", "index-redundant"} | (
        {"reference-unindexed"} if kind != "mysql" else set()
    )
    assert advice.keys() == expected
    assert "few" not in str(advice)
    assert "children_other_2 by children_other" in advice["index-duplicate"]["message"]
    assert "children_other by children_other_word" in advice["index-redundant"]["message"]
    if kind != "mysql":  # which creates these indexes itself
        assert "children (parent)" in advice["reference-unindexed"]["message"]
        assert "grand" not in advice["reference-unindexed"]["message"]
    for finding in advice.values():
        assert "belongs to the app" in finding["hint"]
        for statement in finding["hint"].split(";")[:-1]:
            run(statement)
    remaining = list_advice(answer, url)  # one of two equal indexes was also redundant
    for finding in remaining.values():
        run(finding["hint"].split(";")[0])
    assert list_advice(answer, url) == {}


#: Of each column, an index that finds the rows which refer to a row, but has no more columns or rows than that needs.
SERVING = [
    "create table parents (id integer primary key, code integer, unique (code, id))",
    """create table children (id integer primary key, parent integer references parents (id), other integer references parents (id),
      "Grand" integer references parents (id), word integer, code integer, item integer,
      foreign key (code, item) references parents (code, id), foreign key (parent) references parents (id))""",
    "create index by_parent on children (parent) where parent is not null",
    'create index by_grand on children ("Grand" desc, word) where ("Grand" IS NOT NULL)',
    "create index by_code on children (code, word)",
    "create index by_other on children (other) where word is not null",
]  # fmt: skip


@pytest.mark.parametrize("place", ["sqlite", "postgresql"], indirect=True)
def test_index_of_the_rows_or_columns_that_deletions_need_is_enough(answer, place, monkeypatch):
    _, url, run = place
    monkeypatch.setattr(index_advice, "MIN_ROWS", 1)
    run("drop table few")
    run("drop table children")
    run("drop table parents")
    for sql in SERVING:
        run(sql)
    run("insert into parents values (1, 1)")
    run('insert into children (id, parent, other, "Grand") values (1, 1, 1, 1)')
    run("analyze")
    advice = list_advice(answer, url)
    assert advice["reference-unindexed"]["message"].endswith(": children (other)")
    run("drop index by_parent")
    advice = list_advice(answer, url)
    assert advice["reference-unindexed"]["message"].startswith("2 foreign keys")  # of which two are equal
    for statement in advice["reference-unindexed"]["hint"].split(";")[:-1]:
        run(statement)
    assert list_advice(answer, url).keys() <= {"index-redundant"}


def test_unused_index_is_reported_after_a_long_time(answer, monkeypatch):
    with servers.postgresql_schema() as url, closing(servers.connection(url)) as connection:
        connection.execute("create table notes (id integer primary key, text text, small text)")
        connection.execute(
            "insert into notes select n, repeat(md5(n::text), 3), '' from generate_series(1, 20000) n"
        )
        connection.execute("create index notes_text on notes (text)")
        connection.execute("create index notes_small on notes (small)")
        connection.execute("create unique index notes_both on notes (id, text)")
        connection.execute("select pg_stat_reset()")
        address = servers.text(url)
        assert list_advice(answer, address) == {}
        monkeypatch.setattr(index_advice, "UNUSED_FOR", timedelta())
        advice = list_advice(answer, address)
        assert advice.keys() == {"index-unused"}
        assert "1 index not read" in advice["index-unused"]["message"]
        assert "notes_text" in advice["index-unused"]["message"]
        connection.execute("set enable_seqscan = off")
        connection.execute("select count(*) from notes where text = 'x'")
        connection.execute("select pg_stat_force_next_flush()")
        connection.execute("select 1")
        assert list_advice(answer, address) == {}


def test_slow_statement_is_reported_with_the_tables_that_its_plan_reads(deployment, run_json, monkeypatch):  # noqa: F811
    deployment.connection.execute("create table marks (id integer primary key, word text)")
    deployment.connection.execute("insert into marks values (1, 'x'), (2, 'y')")
    for word in ["x"] * index_advice.SLOW_CALLS:
        deployment.connection.execute(f"select pg_sleep(0.02) from marks where word = '{word}'")

    def list_slow():
        findings = run_json("doctor", status=None)["findings"]
        return [finding for finding in findings if finding["code"] == "statement-slow"]

    assert list_slow() == []
    monkeypatch.setattr(index_advice, "SLOW_SECONDS", 0.01)
    (finding,) = list_slow()
    assert "select pg_sleep($1) from marks where word = $2" in finding["message"]
    assert "its plan reads all rows of marks" in finding["message"]
    assert finding["severity"] == "info"
