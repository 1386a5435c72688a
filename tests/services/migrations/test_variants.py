"""Which shape of an app's schema a database has, where migrations travel along for several."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.engines.registry import open_for_reading
from dbctl.profiles.model import MigrationsShape
from dbctl.services.migrations.files import loader
from dbctl.services.migrations.files.variants import fitting
from dbctl.services.migrations.ledger.ledger import Record
from dbctl.url import Url
from tests import servers

OLD, NEW = "create table jars (label text)", "create table jars (title text)"
FILES = {"old": ("001_jars", "002_lids"), "new": ("001_all-jars", "002_lids")}
SHAPES = [
    MigrationsShape(name="old", needs=["jars.label"]),
    MigrationsShape(name="new", needs=["jars.title"]),
]


@pytest.fixture
def told(tmp_path):
    """Tells the shapes that a database may have, made by some SQL and with some rows in its ledger."""
    folders = {}
    for shape, names in FILES.items():
        (tmp_path / shape).mkdir()
        for name in names:
            (tmp_path / shape / f"{name}.sql").write_text("select 1;")
        folders[shape] = loader.read(tmp_path / shape, own=False)

    def telling(sql, *recorded, shapes=SHAPES):
        path = tmp_path / "jars.db"
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(sql)
        with closing(open_for_reading(Url(engine="sqlite", path=str(path)), "app/main", timeout=1)) as db:
            return fitting(shapes, folders, db, recorded)

    return telling


def named(name):
    return Record(name=name)


@pytest.mark.parametrize(
    ("sql", "recorded", "shapes"),
    [
        (OLD, ["001_jars"], ["old"]),
        (OLD, ["001_all-jars"], ["new"]),  # the ledger tells, whatever somebody has done to the schema
        (OLD, ["001_all-jars", "002_lids", "003_gone"], ["new"]),
        ("create table t (x)", ["001_all-jars"], ["new"]),
        (NEW, ["002_lids"], ["new"]),  # a name that several have tells nothing
        ("create table t (x)", ["002_lids"], ["old", "new"]),
        (NEW, ["009_other"], ["new"]),
        (OLD, [], ["old"]),
        (NEW, [], ["new"]),
        ("create table jars (label text, title text)", [], ["old", "new"]),
        ("create table t (x)", [], []),
        ("create table t (x)", ["009_other"], []),
    ],
)
def test_the_ledger_tells_the_shape_and_the_schema_where_the_ledger_does_not(told, sql, recorded, shapes):
    assert told(sql, *map(named, recorded)) == shapes


def test_a_shape_whose_needs_another_has_too_counts_where_those_of_the_other_are_lacking(told):
    with_lids = MigrationsShape(name="new", needs=["jars.label", "lids"])
    shapes = [SHAPES[0], with_lids]
    lids = f"{OLD}; create table lids (x)"
    for recorded in ([], [named("002_lids")]):
        assert told(OLD, *recorded, shapes=shapes) == ["old"]
        assert told(lids, *recorded, shapes=shapes) == ["new"]
    assert told(lids, named("001_jars"), shapes=shapes) == ["old"]


def test_a_ledger_of_numbers_leaves_it_to_the_schema(told):
    assert told(NEW, Record(version="1"), Record(version="002")) == ["new"]


NOWHERE = "main=postgresql://postgres@127.0.0.1:1/nowhere"  # what is refused must not even be opened


@pytest.mark.parametrize(
    ("words", "status", "code", "says"),
    [
        ("--profile waqtor --url {nowhere} migrate up --variant paper", 5, "migration-shape-unknown", "deployed, document"),
        ("--profile waqtor --url {nowhere} migrate status --variant Document", 5, "migration-shape-unknown", "document"),
        ("--profile waqtor --url {nowhere} migrate drift --variant document --migrations .", 2, "usage", "--migrations"),
        ("--profile waqtor --url legacy=x.db migrate plan --db legacy --variant document", 2, "ability-missing", "waqtor"),
        ("--profile promptvault --url {nowhere} migrate verify --variant document", 5, "migration-shape-unknown", "deployed, indexed"),
        ("--profile yaai --url code=x.db migrate verify --db code --variant document", 2, "ability-missing", "waqtor"),
        ("--config own.toml migrate baseline --variant document", 2, "usage", "[apps.NAME.migrations]"),
        ("demo waqtor new --url {nowhere} --variant paper", 5, "migration-shape-unknown", "deployed, document"),
        ("demo waqtor new --url {nowhere} --variant paper --dry-run", 5, "migration-shape-unknown", "document"),
        ("demo flashpoint-web new --variant document", 2, "ability-missing", "waqtor"),
    ],
)  # fmt: skip
def test_a_shape_that_cannot_be_had_is_refused_before_anything_is_opened(
    answer, tmp_path, monkeypatch, words, status, code, says
):
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text(
        '[apps.waqtor]\nprofile = "waqtor"\n'
        f'[apps.waqtor.databases]\nmain = "{NOWHERE.removeprefix("main=")}"\n'
        '[apps.waqtor.migrations]\nmain = "."\n'
    )
    error = answer(*words.format(nowhere=NOWHERE).split(), status=status)["error"]
    assert error["code"] == code
    assert says in f"{error['message']} {error['hint']}"
    assert [one.name for one in tmp_path.iterdir()] == ["own.toml"]


@pytest.fixture
def empty(answer):
    """Runs a command on a new, empty database; returns what the answer tells."""
    with servers.postgresql_schema() as url:

        def run(*words, status=0):
            told = answer("--profile", "waqtor", "--url", f"main={servers.text(url)}", *words, status=status)
            return told["error"] or told["data"]

        yield run


def test_a_ledger_is_put_right_in_the_shape_that_it_is_of(empty):
    empty("migrate", "up", "--to", "1", "--variant", "document")
    assert [one["name"] for one in empty("migrate", "mark", "2", "--applied")["items"]] == ["002_campaigns"]
    assert empty("migrate", "repair", "--missing", "--variant", "document")["items"] == []
    assert [one["name"] for one in empty("migrate", "mark", "2", "--pending")["items"]] == ["002_campaigns"]
    for words in ("mark 2 --applied", "repair --missing"):
        refused = empty("migrate", *words.split(), "--variant", "deployed", status=6)
        assert refused["code"] == "migration-shape-other"


def test_what_was_begun_in_a_shape_goes_on_in_it_and_in_no_other(empty):
    def states():
        return {
            one["name"]: one["state"] for one in empty("migrate", "status", "--check", status=None)["items"]
        }

    assert next(iter(states())) == "001_accounts-messages-campaigns", "the first shape, while nothing tells"
    planned = [one["name"] for one in empty("migrate", "plan", "--variant", "document")["items"]]
    begun = empty("migrate", "up", "--to", "1", "--variant", "document")["items"]
    assert [one["name"] for one in begun] == planned[:1]
    for words in ("status", "plan", "up", "up --dry-run", "verify", "drift", "baseline"):
        refused = empty("migrate", *words.split(), "--variant", "deployed", status=6)
        assert refused["code"] == "migration-shape-other"
        assert refused["message"].endswith("has the shape document, not deployed")
    assert states() == dict.fromkeys(planned[:1], "applied") | dict.fromkeys(planned[1:], "pending")
    assert empty("users", "list")["items"] == [], "commands know it once its first migration has run"
    assert [one["name"] for one in empty("migrate", "up")["items"]] == planned[1:]
    assert set(states().values()) == {"applied"}
