"""Detection of the variant of a database, if dbctl ships migrations for several."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.engines.registry import load_engine
from dbctl.profiles.model.databases import MigrationsVariant
from dbctl.services.migrations.files import loader
from dbctl.services.migrations.ledger.ledger import Record
from dbctl.services.migrations.ledger.state import match_variants
from dbctl.url import Url
from tests import servers

OLD, NEW = "create table jars (label text)", "create table jars (title text)"
FILES = {"old": ("001_jars", "002_lids"), "new": ("001_all-jars", "002_lids")}
VARIANTS = [
    MigrationsVariant(name="old", needs=["jars.label"]),
    MigrationsVariant(name="new", needs=["jars.title"]),
]


@pytest.fixture
def detect(tmp_path):
    """Return a function that detects the variants of a database with a schema and ledger rows."""
    folders = {}
    for variant, names in FILES.items():
        (tmp_path / variant).mkdir()
        for name in names:
            (tmp_path / variant / f"{name}.sql").write_text("select 1;")
        folders[variant] = loader.read_folder(tmp_path / variant, is_custom=False)

    def detect_variants(sql, *recorded, variants=VARIANTS):
        path = tmp_path / "jars.db"
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(sql)
        with closing(
            load_engine("sqlite").open_for_reading(
                Url(engine="sqlite", path=str(path)), "app/main", timeout=1
            )
        ) as db:
            return match_variants(variants, folders, db, recorded)

    return detect_variants


def create_record(name):
    return Record(name=name)


@pytest.mark.parametrize(
    ("sql", "recorded", "expected"),
    [
        (OLD, ["001_jars"], ["old"]),
        (OLD, ["001_all-jars"], ["new"]),  # the ledger decides, even if the schema was changed manually
        (OLD, ["001_all-jars", "002_lids", "003_gone"], ["new"]),
        ("create table t (x)", ["001_all-jars"], ["new"]),
        (NEW, ["002_lids"], ["new"]),  # a name in several variants is ignored
        ("create table t (x)", ["002_lids"], ["old", "new"]),
        (NEW, ["009_other"], ["new"]),
        (OLD, [], ["old"]),
        (NEW, [], ["new"]),
        ("create table jars (label text, title text)", [], ["old", "new"]),
        ("create table t (x)", [], []),
        ("create table t (x)", ["009_other"], []),
    ],
)
def test_variant_is_detected_from_ledger_then_schema(detect, sql, recorded, expected):
    assert detect(sql, *map(create_record, recorded)) == expected


def test_smaller_variant_matches_if_the_larger_does_not(detect):
    with_lids = MigrationsVariant(name="new", needs=["jars.label", "lids"])
    choices = [VARIANTS[0], with_lids]
    lids = f"{OLD}; create table lids (x)"
    for recorded in ([], [create_record("002_lids")]):
        assert detect(OLD, *recorded, variants=choices) == ["old"]
        assert detect(lids, *recorded, variants=choices) == ["new"]
    assert detect(lids, create_record("001_jars"), variants=choices) == ["old"]


def test_version_ledger_leaves_the_variant_to_the_schema(detect):
    assert detect(NEW, Record(version="1"), Record(version="002")) == ["new"]


NOWHERE = "main=postgresql://postgres@127.0.0.1:1/nowhere"  # unreachable: a refused command must not open the database


@pytest.mark.parametrize(
    ("arguments", "status", "code", "text"),
    [
        ("--profile waqtor --url {nowhere} migrate up --variant paper", 5, "migration-variant-unknown", "deployed, document"),
        ("--profile waqtor --url {nowhere} migrate status --variant Document", 5, "migration-variant-unknown", "document"),
        ("--profile waqtor --url {nowhere} migrate drift --variant document --migrations .", 2, "usage", "--migrations"),
        ("--profile waqtor --url legacy=x.db migrate plan --db legacy --variant document", 2, "feature-missing", "waqtor"),
        ("--profile promptvault --url {nowhere} migrate verify --variant document", 5, "migration-variant-unknown", "deployed, indexed"),
        ("--profile yaai --url code=x.db migrate verify --db code --variant document", 2, "feature-missing", "waqtor"),
        ("--config own.toml migrate baseline --variant document", 2, "usage", "[apps.NAME.migrations]"),
        pytest.param(*("demo waqtor new --url {nowhere} --variant paper", 5, "migration-variant-unknown", "deployed, document"), marks=pytest.mark.needs_extension("demo")),
        pytest.param(*("demo waqtor new --url {nowhere} --variant paper --dry-run", 5, "migration-variant-unknown", "document"), marks=pytest.mark.needs_extension("demo")),
        pytest.param(*("demo flashpoint-web new --variant document", 2, "feature-missing", "waqtor"), marks=pytest.mark.needs_extension("demo")),
    ],
)  # fmt: skip
def test_unusable_variant_is_refused_before_anything_is_opened(
    answer, tmp_path, monkeypatch, arguments, status, code, text
):
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text(
        '[apps.waqtor]\nprofile = "waqtor"\n'
        f'[apps.waqtor.databases]\nmain = "{NOWHERE.removeprefix("main=")}"\n'
        '[apps.waqtor.migrations]\nmain = "."\n'
    )
    error = answer(*arguments.format(nowhere=NOWHERE).split(), status=status)["error"]
    assert error["code"] == code
    assert text in f"{error['message']} {error['hint']}"
    assert [path.name for path in tmp_path.iterdir()] == ["own.toml"]


@pytest.fixture
def run_command(answer):
    """Return a function that runs a command on a new, empty database and returns its data or error."""
    with servers.postgresql_schema() as url:

        def run(*words, status=0):
            output = answer(
                "--profile", "waqtor", "--url", f"main={servers.text(url)}", *words, status=status
            )
            return output["error"] or output["data"]

        yield run


def test_mark_and_repair_use_the_variant_of_the_database(run_command):
    run_command("migrate", "up", "--to", "1", "--variant", "document")
    assert [migration["name"] for migration in run_command("migrate", "mark", "2", "--applied")["items"]] == [
        "002_campaigns"
    ]
    assert run_command("migrate", "repair", "--missing", "--variant", "document")["items"] == []
    assert [migration["name"] for migration in run_command("migrate", "mark", "2", "--pending")["items"]] == [
        "002_campaigns"
    ]
    for arguments in ("mark 2 --applied", "repair --missing"):
        error = run_command("migrate", *arguments.split(), "--variant", "deployed", status=6)
        assert error["code"] == "migration-variant-mismatch"


def test_variant_of_a_database_cannot_change(run_command):
    def read_states():
        return {
            migration["name"]: migration["state"]
            for migration in run_command("migrate", "status", "--check", status=None)["items"]
        }

    assert next(iter(read_states())) == "001_accounts-messages-campaigns", (
        "the first variant is the default for an empty database"
    )
    planned = [
        migration["name"] for migration in run_command("migrate", "plan", "--variant", "document")["items"]
    ]
    applied = run_command("migrate", "up", "--to", "1", "--variant", "document")["items"]
    assert [migration["name"] for migration in applied] == planned[:1]
    for arguments in ("status", "plan", "up", "up --dry-run", "verify", "drift", "baseline"):
        error = run_command("migrate", *arguments.split(), "--variant", "deployed", status=6)
        assert error["code"] == "migration-variant-mismatch"
        assert error["message"].endswith("has the variant document, not deployed")
    assert read_states() == dict.fromkeys(planned[:1], "applied") | dict.fromkeys(planned[1:], "pending")
    assert run_command("users", "list")["items"] == [], (
        "commands detect the variant after its first migration"
    )
    assert [migration["name"] for migration in run_command("migrate", "up")["items"]] == planned[1:]
    assert set(read_states().values()) == {"applied"}
