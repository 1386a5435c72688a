"""A new user of the app in the destination after the switch: what is found, and that nothing of it remains."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from dbctl.services.app.proofs import compute_digest
from dbctl.url import parse_url
from tests import servers
from tests.databases import ComparedDatabase, empty_database
from tests.profiles.apps.deployments import fill

Answer = Callable[..., dict[str, Any]]

#: A profile with an audit log of the app, and a field ``shelf`` without a rule.
PROFILE = """\
schema = "dbctl.profile/1"
name = "shop"
title = "Shop"

[databases.main]
engines = ["sqlite", "postgresql"]
needs = ["users"]
migrations = { ledger = "auto" }

[users]
table = "users"
id = { column = "id", codec = "autoincrement" }
login = ["login"]
password = { column = "hash", writes = "$2b$04$" }

[users.fields]
login = "login"
shelf = "shelf"

[audit]
table = "events"
fields = { action = "action", username = "name" }
"""
VERSION = "20260101120000"
SCHEMA = f"""
    create table users (id integer primary key autoincrement, login varchar(40) not null unique, hash varchar(80), shelf varchar(9) SHELF);
    create table events (id integer primary key autoincrement, action varchar(40) not null, name varchar(80) not null);
    create table schema_migrations (version varchar(128) primary key);
    insert into users (login, shelf) values ('ada', 'a'), ('bo', 'b');
    insert into events (action, name) values ('start', 'ada');
    insert into schema_migrations values ('{VERSION}');
"""


@pytest.fixture
def move(answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Moved]]:
    """Return a function that transfers an app, and ends the transfer."""
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    with ExitStack() as stack:

        def run(profile: str, source: str, engine: str) -> Moved:
            destination = stack.enter_context(empty_database(engine, tmp_path / "moved.db"))
            return Moved(profile, source, destination, tmp_path, answer)

        yield run


@pytest.fixture
def move_laravel(move: Callable[..., Moved], tmp_path: Path) -> Iterator[Callable[..., Moved]]:
    """Return a function that moves a database of Laravel from an engine to another one."""
    with ExitStack() as stack:

        def run(source: str, destination: str, *statements: str) -> Moved:
            database = stack.enter_context(empty_database(source, tmp_path / "source.db"))
            fill("laravel", database)
            database.run(*statements)
            return move("laravel", database.url, destination)

        yield run


class Moved:
    """An app whose transfer has ended, with the address of the source."""

    def __init__(
        self, profile: str, source: str, destination: ComparedDatabase, folder: Path, answer: Answer
    ) -> None:
        self.destination, self._answer = destination, answer
        config = folder / "dbctl.toml"
        config.write_text(f'[apps.app]\nprofile = "{profile}"\n[apps.app.databases]\nmain = "{source}"\n')
        self._words = ("--config", str(config))
        self.transfer("run")
        assert (
            self.transfer("verify")["new_user"] is None
        )  # before the switch, the destination is not written
        self.transfer("switch", "--yes")

    def transfer(self, command: str, *words: str, status: int = 0, to: str = "") -> dict[str, Any]:
        url = to or self.destination.url
        return self._answer(*self._words, "transfer", command, "--to", url, *words, status=status)["data"]

    def try_user(self, status: int = 0, to: str = "") -> tuple[str, str, str]:
        """Verify the transfer; return the outcome, and both facts."""
        trial = self.transfer("verify", status=status, to=to)["new_user"]
        return trial["outcome"], trial["facts"][0], trial["facts"][-1]

    def read_audit_log(self) -> list[dict[str, Any]]:
        """Return the changes in the audit log of dbctl."""
        return self._answer(*self._words, "audit", "list")["data"]["items"]


def list_next_numbers(moved: Moved) -> list[tuple[object, ...]]:
    """Return the next numbers of the users' keys and of the app's audit log in PostgreSQL."""
    return list(moved.destination.rows("select sequencename, last_value from pg_sequences order by 1"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "destination"), [("sqlite", "postgresql"), ("sqlite", "mysql"), ("postgresql", "sqlite")]
)
def test_new_user_of_a_built_in_profile_is_accepted_and_leaves_nothing(move_laravel, source, destination):
    moved = move_laravel(source, destination)
    before, log = moved.destination.content(), moved.read_audit_log()
    numbers = list_next_numbers(moved) if destination == "postgresql" else []
    outcome, fact, proof = moved.try_user()
    assert (outcome, "found by email and its password matches" in fact) == ("accepted", True)
    assert proof == "users create is inferred, by no demonstration"
    assert moved.destination.content() == before
    assert numbers == (list_next_numbers(moved) if destination == "postgresql" else [])
    assert moved.read_audit_log() == log
    assert log


STRIPPED_HASH = """
create function shorten() returns trigger language plpgsql as 'begin new.password := left(new.password, 20); return new; end';
create trigger shorten before insert on users for each row execute function shorten()"""
DEFERRED_CHECK = """
create function refuse() returns trigger language plpgsql as 'begin raise integrity_constraint_violation; end';
create constraint trigger refuse after insert on users deferrable initially deferred for each row execute function refuse()"""
BREAKAGES: Mapping[str, tuple[str, str]] = {
    "sequence": ("select setval(pg_get_serial_sequence('users', 'id'), 1, false)", "duplicate key"),
    "hash": (STRIPPED_HASH, "the stored hash does not match the password"),
    "deferred constraint": (DEFERRED_CHECK, "integrity_constraint_violation"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BREAKAGES)
def test_damaged_destination_refuses_the_user(move_laravel, name):
    moved, (statements, words) = move_laravel("sqlite", "postgresql"), BREAKAGES[name]
    moved.destination.run(*statements.split(";\n"))
    before, numbers = moved.destination.content(), list_next_numbers(moved)
    outcome, fact, _ = moved.try_user(status=4)
    assert outcome == "refused"
    assert fact.startswith("users create fails on the destination: ")
    assert words in fact
    assert (moved.destination.content(), list_next_numbers(moved)) == (before, numbers)


@pytest.mark.slow
def test_sign_in_that_the_next_user_would_inherit_is_found(move_laravel):
    moved = move_laravel("sqlite", "sqlite", "insert into sessions values ('s9', 3, 'x', 2000000000)")
    outcome, fact, _ = moved.try_user(status=4)
    assert (outcome, "1 sign-in of an earlier user" in fact) == ("refused", True)


@pytest.fixture
def move_shop(move: Callable[..., Moved], tmp_path: Path) -> Callable[..., Moved]:
    """Return a function that moves an app with a profile of its own to PostgreSQL."""

    def run(*, shelf: str = "", proof: str = "") -> Moved:
        with closing(sqlite3.connect(tmp_path / "shop.db")) as db:
            db.executescript(SCHEMA.replace("SHELF", shelf))
        (tmp_path / "shop.toml").write_text(PROFILE + proof)
        return move("shop.toml", str(tmp_path / "shop.db"), "postgresql")

    return run


def write_proof(digest: str = "", ledger: str = VERSION, engine: str = "postgresql") -> str:
    """Return the section of a profile with a proof of ``users create``."""
    digest = digest or compute_digest(PROFILE, "create-user")
    return f"""
[proven.{engine}]
create-user = {{ at = "2026-11-25", ledger = "{ledger}", recordings = 1, rows = 1, digest = "{digest}" }}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("proof", "words"),
    [
        ({}, f"proven by a demonstration, replayed on 2026-11-25 with ledger {VERSION}"),
        ({"engine": "sqlite"}, "inferred, by no demonstration on PostgreSQL, only on SQLite"),
        ({"digest": "0"}, "inferred: the profile has changed since its proof of 2026-11-25"),
        ({"ledger": "20250101000000"}, f"but the last migration of destination/main is {VERSION}"),
    ],
)
def test_fact_names_the_proof(move_shop, proof, words):
    moved = move_shop(proof=write_proof(**proof))
    numbers = list_next_numbers(moved)
    outcome, _, fact = moved.try_user()
    assert (outcome, fact.startswith("users create is "), words in fact) == ("accepted", True, True)
    assert moved.destination.rows("select action, name from events") == [("start", "ada")]
    assert list_next_numbers(moved) == numbers


@pytest.mark.slow
def test_required_value_that_no_rule_describes_prevents_the_trial(move_shop):
    moved = move_shop(shelf="not null")
    outcome, fact, _ = moved.try_user()
    assert (outcome, "was not tried" in fact, "requires shelf" in fact) == ("unknown", True, True)


@pytest.mark.slow
def test_role_that_may_only_read_cannot_try_a_user(move_shop):
    moved = move_shop()
    url = parse_url(moved.destination.url)
    role = f"t_reader_{url.path}"[:60]
    moved.destination.run(
        f"create role {role} login", f"grant select on all tables in schema public to {role}"
    )
    try:
        outcome, fact, _ = moved.try_user(status=4, to=servers.text(structs.replace(url, user=role)))
        assert (outcome, "was not tried" in fact) == ("unknown", True)
    finally:
        moved.destination.run(f"drop owned by {role}", f"drop role {role}")


@pytest.mark.slow
def test_lost_auto_increment_and_tables_without_transactions_are_found(move_laravel):
    moved = move_laravel("sqlite", "mysql")
    moved.destination.run("alter table users engine = MyISAM")
    before = moved.destination.content()
    outcome, fact, _ = moved.try_user()
    assert (outcome, "cannot roll back" in fact) == ("unknown", True)
    assert moved.destination.content() == before
    moved.destination.run("alter table users engine = InnoDB, modify id int not null")
    outcome, fact, _ = moved.try_user(status=4)
    assert (outcome, "keys of users are not autoincrement" in fact) == ("refused", True)
