"""Triggers that revert a write, or remove its row: the command is refused, and the database is unchanged."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.cli.main import main
from tests import servers
from tests.databases import ComparedDatabase, from_url

TABLE = "create table notes (id integer primary key, code varchar(20), title varchar(20))"
ROWS = "insert into notes values (1, 'a', 'first'), (2, 'b', 'second')"
RETAINS, REMOVES, MOVES, RETURNS = "retains", "removes", "moves", "returns"
CHANGES = [
    ("set", "notes", "1", "title=x"),
    ("set", "notes", "1", "title=x", "code=y"),
    ("set", "notes", "--filter", "id>0", "title=x"),
    ("replace", "first", "x"),
]
ADDITIONS = [("add", "notes", "id=7", "code=c"), ("import", "notes", "rows.csv")]
DELETIONS = [("delete", "notes", "1"), ("delete", "notes", "--filter", "id>0")]

TRIGGERS = {
    "sqlite": {
        RETAINS: "create trigger odd after update of title on notes when new.title <> old.title begin update notes set title = old.title where id = old.id; end",
        REMOVES: "create trigger odd after update on notes begin delete from notes where id = new.id; end",
        MOVES: "create trigger odd after insert on notes begin delete from notes where id = new.id; end",
        RETURNS: "create trigger odd after delete on notes begin insert into notes values (old.id, old.code, old.title); end",
    },
    "postgresql": {
        RETAINS: "create trigger odd before update on notes for each row execute function odd('retain')",
        REMOVES: "create trigger odd after update on notes for each row execute function odd('remove')",
        MOVES: "create trigger odd after insert on notes for each row execute function odd('remove')",
        RETURNS: "create trigger odd after delete on notes for each row execute function odd('return')",
    },
    "mysql": {RETAINS: "create trigger odd before update on notes for each row set new.title = old.title"},
}
FUNCTION = """create function odd() returns trigger language plpgsql as $$ begin
    if tg_argv[0] = 'retain' then new.title = old.title; return new; end if;
    if tg_argv[0] = 'remove' then delete from notes where id = new.id; else insert into notes values (old.*); end if;
    return null;
end $$"""


#: The commands that the triggers of an engine revert, by engine and trigger.
REVERTED = [
    pytest.param(
        engine, kind, words, marks=[pytest.mark.needs_extension("copies")] if words[0] == "replace" else []
    )
    for engine, triggers in TRIGGERS.items()
    for kind in triggers
    for words in {RETAINS: CHANGES, REMOVES: CHANGES, MOVES: ADDITIONS, RETURNS: DELETIONS}[kind]
]


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ComparedDatabase]:
    if request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "notes.db")) as file, file:
            file.execute(TABLE)
            file.execute(ROWS)
        yield from_url(str(tmp_path / "notes.db"))
    elif request.param == "postgresql":
        with servers.postgresql_schema() as address:
            database = from_url(servers.text(address))
            database.run(TABLE, ROWS, FUNCTION)
            yield database
    else:
        with servers.mysql_database() as address:
            database = from_url(str(address))
            database.run(TABLE, ROWS)
            yield database


@pytest.mark.parametrize(("database", "kind", "words"), REVERTED, indirect=["database"])
@pytest.mark.parametrize("state", ["off", "state"])
def test_reverted_write_is_refused(
    database: ComparedDatabase,
    kind: str,
    words: Sequence[str],
    state: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", state if state == "off" else str(tmp_path / state))
    Path("rows.csv").write_text("id,code,title\n8,c,third\n9,d,fourth\n")
    database.run(TRIGGERS[database.engine][kind])
    before = database.content()
    assert main(["--profile", "plain", "--url", f"main={database.url}", "data", *words, "--yes"]) == 6
    assert database.content() == before
    database.run(f"drop trigger odd{' on notes' if database.engine == 'postgresql' else ''}")
    assert main(["--profile", "plain", "--url", f"main={database.url}", "data", *words, "--yes"]) == 0
    assert database.content() != before


def test_value_in_another_form_is_accepted(database: ComparedDatabase) -> None:
    """A trigger or a type that changes the new value does not revert it."""
    database.run("alter table notes add column price numeric(10, 2)", "update notes set price = 1")
    options = ["--profile", "plain", "--url", f"main={database.url}", "data", "set", "notes"]
    assert main([*options, "1", "price=2.50", "title=x"]) == 0
    assert main([*options, "1", "price=2.5", "title=y"]) == 0
    assert main([*options, "--filter", "id>0", "price=2.5", "--yes"]) == 0
    assert [float(str(price)) for (price,) in database.rows("select price from notes")] == [2.5, 2.5]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "words"), [(MOVES, ("delete", "notes", "1")), (REMOVES, ("set", "notes", "1", "title=x"))]
)
def test_undo_whose_row_a_trigger_removes_is_refused(
    database: ComparedDatabase,
    kind: str,
    words: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    options = ["--profile", "plain", "--url", f"main={database.url}"]
    assert main([*options, "data", *words, "--yes"]) == 0
    capsys.readouterr()
    assert main([*options, "audit", "list", "-o", "json"]) == 0
    number = json.loads(capsys.readouterr().out)["data"]["items"][0]["operation"]
    database.run(TRIGGERS[database.engine][kind])
    before = database.content()
    assert main([*options, "undo", str(number), "--yes"]) == 6
    assert database.content() == before


@pytest.mark.parametrize("words", [*CHANGES, *ADDITIONS, *DELETIONS])
@pytest.mark.parametrize("engine", ["aria", "memory"])
@pytest.mark.parametrize("state", ["off", "state"])
def test_table_without_transactions_is_refused_with_the_reason(
    words: Sequence[str], engine: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", state if state == "off" else str(tmp_path / state))
    Path("rows.csv").write_text("id,code,title\n8,c,third\n")
    with servers.mysql_database() as address:
        database = from_url(str(address))
        database.run(f"{TABLE} engine={engine}", ROWS)
        before = database.content()
        assert main(["--profile", "plain", "--url", f"main={address}", "data", *words, "--yes"]) == 2
        assert database.content() == before


#: A trigger that refuses every write, by engine.
REFUSING = {
    "sqlite": ["create trigger odd before {} on notes begin select raise(abort, 'closed'); end"],
    "postgresql": [
        "create function closed() returns trigger language plpgsql as $$ begin raise exception 'closed'; end $$",
        "create constraint trigger odd after {} on notes deferrable initially deferred for each row execute function closed()",
    ],
    "mysql": [
        "create trigger odd before {} on notes for each row signal sqlstate '45000' set message_text = 'closed'"
    ],
}


@pytest.mark.parametrize(
    ("event", "words"),
    [("update", CHANGES[0]), *(("insert", words) for words in ADDITIONS), ("delete", DELETIONS[1])],
)
def test_refusal_of_a_trigger_is_one_of_the_database(
    database: ComparedDatabase,
    event: str,
    words: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("id,code,title\n8,c,third\n9,d,fourth\n")
    database.run(*(sql.format(event) for sql in REFUSING[database.engine]))
    before = database.content()
    options = ["--profile", "plain", "--url", f"main={database.url}"]
    assert main([*options, "data", *words, "--yes"]) == 6
    assert "does not accept the change: closed" in capsys.readouterr().err
    assert database.content() == before


def test_trigger_that_changes_its_own_table_refuses_the_change(capsys: pytest.CaptureFixture[str]) -> None:
    with servers.mysql_database() as address:
        database = from_url(servers.text(address))
        database.run(
            "create table notes (id int primary key, title varchar(9))",
            "insert into notes values (1, 'a')",
            "create trigger odd after update on notes for each row update notes set title = 'b'",
        )
        options = ["--profile", "plain", "--url", f"main={database.url}"]
        assert main([*options, "data", "set", "notes", "1", "title=c"]) == 6
        assert "does not accept the change: Can't update table 'notes'" in capsys.readouterr().err
        assert database.rows("select title from notes") == [("a",)]


def test_error_of_a_function_that_reads_is_no_refused_change(capsys: pytest.CaptureFixture[str]) -> None:
    with servers.postgresql_schema() as address:
        from_url(servers.text(address)).run(
            "create function closed() returns int language plpgsql as $$ begin raise exception 'closed'; end $$"
        )
        options = ["--profile", "plain", "--url", f"main={servers.text(address)}"]
        assert main([*options, "data", "query", "select closed()", "--secrets"]) == 1
    assert "rejected a statement: closed" in capsys.readouterr().err
