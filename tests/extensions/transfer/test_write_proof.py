"""Whether the destination accepts new rows after the switch, without a trace."""

from __future__ import annotations

import pytest

from tests.extensions.transfer.test_live_writers import run_sql

ENGINES = ["sqlite", "postgresql", "mysql"]
KEYS = {
    "sqlite": "integer primary key autoincrement",
    "postgresql": "serial primary key",
    "mysql": "integer primary key auto_increment",
}


def create_tables(url_text, engine):
    run_sql(
        url_text,
        *(
            sql.replace("KEY", KEYS[engine])
            for sql in (
                "create table person (id KEY, login varchar(8) not null unique, mail varchar(100) unique)",
                "create table pet (id KEY, owner integer not null references person (id), name varchar(20), unique (owner))",
                "create table note (id KEY, writer integer references person (id), content varchar(20))",
                "create table blank (id KEY, content varchar(20))",
                "create table setting (name varchar(20) primary key)",
                "insert into person (login, mail) values ('ann', 'a@example.org'), ('bob', null)",
                "insert into pet (owner, name) values (1, 'Rex'), (2, 'Tom')",
                "create table star (id KEY, person integer not null references person (id), unique (person))",
                "insert into star (person) values (2)",
                "insert into note (writer, content) values (2, 'hello')",
            )
        ),
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_tables_accept_new_rows_after_the_switch(answer, databases, tmp_path, engine):
    source, destination = str(tmp_path / "source.db"), databases(engine, tmp_path)
    create_tables(source, "sqlite")
    words = ("--url", f"main={source}", "transfer")
    answer(*words, "run", "--to", destination)
    assert answer(*words, "verify", "--to", destination)["data"]["writes"] == []
    answer(*words, "switch", "--to", destination, "--yes")
    result = answer(*words, "verify", "--to", destination)["data"]
    assert {proof["table"]: proof["outcome"] for proof in result["writes"]} == {
        "person": "accepted",
        "note": "accepted",
        "pet": "unknown",
        "star": "accepted",
        "blank": "unknown",
    }
    reasons = {proof["table"]: proof["reason"] for proof in result["writes"]}
    assert (bool(reasons["pet"]), reasons["blank"]) == (True, "it is empty")
    assert answer(*words, "verify", "--to", destination)["data"]["equal"] is True
    assert run_sql(destination, "select count(*), max(id) from person") == [(2, 2)]
    if engine != "mysql":  # whose numbers are not part of a transaction
        run_sql(destination, "insert into person (login) values ('eve')")
        assert run_sql(destination, "select max(id) from person") == [(3,)]


@pytest.mark.slow
def test_refused_rows_are_reported(answer, databases, tmp_path):
    source, destination = str(tmp_path / "source.db"), databases("postgresql", tmp_path)
    create_tables(source, "sqlite")
    words = ("--url", f"main={source}", "transfer")
    answer(*words, "run", "--to", destination)
    answer(*words, "switch", "--to", destination, "--yes")
    run_sql(destination, "alter table note add check (id < 2)")
    result = answer(*words, "verify", "--to", destination, status=4)
    assert {"note"} == {p["table"] for p in result["data"]["writes"] if p["outcome"] == "refused"}
    assert any("note refuses new rows" in line for line in result["warnings"])


@pytest.mark.parametrize(
    "triggers",
    [
        ["create trigger skips before insert on note begin select raise(ignore); end"],
        [
            "create function skip() returns trigger language plpgsql as 'begin return null; end'",
            "create trigger skips before insert on note for each row execute function skip()",
        ],
    ],
    ids=["sqlite", "postgresql"],
)
def test_table_that_skips_new_rows_is_no_refusal(answer, databases, tmp_path, request, triggers):
    engine = request.node.callspec.id
    source, destination = str(tmp_path / "source.db"), databases(engine, tmp_path)
    create_tables(source, "sqlite")
    words = ("--url", f"main={source}", "transfer")
    answer(*words, "run", "--to", destination)
    answer(*words, "switch", "--to", destination, "--yes")
    run_sql(destination, *triggers)
    proofs = {
        proof["table"]: proof
        for proof in answer(*words, "verify", "--to", destination, status=None)["data"]["writes"]
    }
    assert (proofs["note"]["outcome"], proofs["note"]["reason"]) == ("unknown", "it ignores new rows")
    assert run_sql(destination, "select count(*) from note") == [(1,)]
