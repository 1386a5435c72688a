"""PromptVault's migrations: Prisma's folders and ledger, on an empty database of each engine and on deployments."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dbctl.config.environment import bundled_folder
from tests import servers
from tests.profiles.test_promptvault import FileDeployment, Run, ServerDeployment, Vault, make_runner
from tests.profiles.test_promptvault import open_deployments as vaults
from tests.shapes import promptvault

ENGINES = ("sqlite", "postgresql", "mysql")
INDEXES = {
    "idx_prompt_user_id", "idx_prompt_visibility", "idx_prompt_created_at", "idx_prompt_updated_at",
    "idx_prompt_public_share_id", "idx_prompt_user_visibility", "idx_prompt_user_created",
}  # fmt: skip
NAMES = {
    "sqlite": "select name from sqlite_master where type = 'index'",
    "postgresql": "select indexname from pg_indexes where schemaname = current_schema()",
    "mysql": "select index_name from information_schema.statistics where table_schema = database()",
}
#: A table rebuild as in the fifth migration of the app.
REBUILD = """
CREATE TABLE "new_Prompt" ("id" TEXT NOT NULL PRIMARY KEY, "title" TEXT NOT NULL);
INSERT INTO "new_Prompt" ("id", "title") SELECT "id", "title" FROM "Prompt";
DROP TABLE "Prompt";
ALTER TABLE "new_Prompt" RENAME TO "Prompt";
"""


@contextmanager
def open_empty_database(engine: str, folder: Path) -> Iterator[Vault]:
    """Yield an empty database."""
    if engine == "sqlite":
        file = FileDeployment.__new__(FileDeployment)
        file.variant, file.path, file.url = "sqlite", folder / "new.db", str(folder / "new.db")
        yield file
    elif engine == "postgresql":
        with servers.postgresql_schema() as url:
            yield ServerDeployment(engine, servers.text(url))
    else:
        with servers.mysql_database() as url:
            yield ServerDeployment(engine, servers.text(url))


@pytest.fixture(params=ENGINES)
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    with open_empty_database(request.param, tmp_path) as vault:
        yield vault


@pytest.fixture
def run(fresh: Vault, capsys: pytest.CaptureFixture[str]) -> Run:
    return make_runner(fresh.url, capsys)


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    return promptvault.deployed(tmp_path / "promptvault.db")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of migrations as in a checkout of the app."""
    folder = tmp_path / "migrations"
    for name, text in {
        "20250825092600_init": 'CREATE TABLE "User" ("id" TEXT NOT NULL PRIMARY KEY);\nCREATE TABLE "Prompt" ("id" TEXT);\n',
        "20250825092830_more": 'CREATE TABLE "Tag" ("id" TEXT NOT NULL PRIMARY KEY);\n',
    }.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "migration.sql").write_text(text)
    (folder / "migration_lock.toml").write_text('provider = "sqlite"\n')
    return folder


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


def migration_states(page: object) -> dict[str, str]:
    return {migration["name"]: migration["state"] for migration in page["items"]}  # type: ignore[index]


# An empty database ---------------------------------------------------------------------------------------------------


def test_migrations_create_schema_with_documented_indexes(run: Run, fresh: Vault) -> None:
    run("migrate", "up", "--variant", "indexed")
    assert set(migration_states(run("migrate", "status")).values()) == {"applied"}
    assert run("migrate", "up")["items"] == []
    assert run("migrate", "drift")["findings"] == []
    assert run("migrate", "verify")["findings"] == []
    assert run("apps", "check")["findings"] == []
    assert run("integrity", "cross-check")["findings"] == []
    indexes = {row[0] for row in fresh.rows(NAMES[fresh.variant])}
    assert indexes >= INDEXES
    assert ("idx_prompt_fts" in indexes) == (fresh.variant != "sqlite")
    expected = "missing" if fresh.variant == "sqlite" else "valid"
    assert run("search", "index", "status")["items"][0]["state"] == expected
    run("users", "create", "first@example.org", "--role", "ADMIN", "--generate")


def test_ledger_row_is_as_written_by_prisma(run: Run, fresh: Vault) -> None:
    run("migrate", "up", "--to", "20250825092600")
    ((key, checksum, finished, name, logs, rolled_back, started, steps),) = fresh.rows(
        'select "id", "checksum", "finished_at", "migration_name", "logs", "rolled_back_at", "started_at",'
        ' "applied_steps_count" from "_prisma_migrations"'
    )
    file = (
        bundled_folder("migrations")
        / "promptvault"
        / "main"
        / "deployed"
        / fresh.variant
        / name
        / "migration.sql"
    )
    assert (name, logs, rolled_back, steps) == ("20250825092600_init", None, None, 1)
    assert len(key) == 36
    assert checksum == hashlib.sha256(file.read_bytes()).hexdigest()
    assert started <= finished
    assert isinstance(finished, int) == (fresh.variant == "sqlite"), (
        "milliseconds, because the engine has no type for times"
    )


# A database that the app created -------------------------------------------------------------------------------------


def test_published_checksums_count_as_applied(deployed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_runner(str(deployed), capsys)
    assert migration_states(run("migrate", "status", "--check")) == {
        name: "applied" for name, _ in promptvault.LEDGER
    }
    shared = rows(deployed, "select id, publicShareId from Prompt order by id")
    assert run("migrate", "up")["items"] == []
    indexed = run("migrate", "up", "--variant", "indexed")["items"]
    assert [migration["name"] for migration in indexed] == ["20250829090000_prompt_indexes"]
    assert rows(deployed, "select id, publicShareId from Prompt order by id") == shared
    assert {finding["severity"] for finding in run("migrate", "drift")["findings"]} <= {"info"}


@pytest.mark.parametrize("applied", [3, 4])
def test_older_deployment_is_migrated_with_existing_search_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], applied: int
) -> None:
    path = promptvault.deployed(tmp_path / "old.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("drop index Prompt_publicShareId_key")
        for name in ("isPubliclyShared", "publicShareId"):
            connection.execute(f"alter table Prompt drop column {name}")
        if applied < 4:
            connection.execute("drop table UserTeam")
            connection.execute("drop table Team")
        names = ", ".join(f"'{name}'" for name, _ in promptvault.LEDGER[applied:])
        connection.execute(f"delete from _prisma_migrations where migration_name in ({names})")
    run = make_runner(str(path), capsys)
    assert len(run("migrate", "up")["items"]) == 5 - applied
    assert rows(path, "select count(*), sum(isPubliclyShared) from Prompt") == [(3, 0)]
    assert run("apps", "check")["findings"] == []


def test_unfinished_prisma_migration_blocks_until_rolled_back(
    deployed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = promptvault.LEDGER[-1][0]
    rows(deployed, f"update _prisma_migrations set finished_at = null where migration_name = '{last}'")
    run = make_runner(str(deployed), capsys)
    assert migration_states(run("migrate", "status"))[last] == "failed"
    assert run("migrate", "status", "--check", status=4)
    error = run("migrate", "up", status=6)
    assert (error["code"], last in error["message"]) == ("migration-broken", True)
    assert [finding["code"] for finding in run("migrate", "verify", status=4)["findings"]] == ["failed"]
    assert "migrations-inconsistent" in str(run("doctor")["findings"])
    rows(deployed, f"update _prisma_migrations set rolled_back_at = 1 where migration_name = '{last}'")
    assert migration_states(run("migrate", "status"))[last] == "pending"


def test_finished_ledger_row_takes_precedence(deployed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last, checksum = promptvault.LEDGER[-1]
    for key, rolled_back in (("a", 1772440000000), ("b", "null")):
        rows(
            deployed,
            "insert into _prisma_migrations (id, checksum, migration_name, started_at, rolled_back_at)"
            f" values ('{key}', '{checksum}', '{last}', 1772440000000, {rolled_back})",
        )
    assert migration_states(make_runner(str(deployed), capsys)("migrate", "status"))[last] == "applied"


# Migration folders of the app ----------------------------------------------------------------------------------------


def test_migrations_of_checkout_are_used(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_runner(str(tmp_path / "new.db"), capsys)
    folder = ("--migrations", str(own))
    assert [migration["name"] for migration in run("migrate", "plan", *folder)["items"]] == [
        "20250825092600_init", "20250825092830_more",
    ]  # fmt: skip
    run("migrate", "up", *folder)
    assert run("migrate", "verify", *folder)["findings"] == []
    (own / "20250825092830_more" / "migration.sql").write_text("select 1;\n")
    assert migration_states(run("migrate", "status", *folder))["20250825092830_more"] == "changed"
    assert run("migrate", "up", *folder, status=4)["code"] == "migration-changed"


def test_new_migration_folder_has_timestamp(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_runner(str(tmp_path / "new.db"), capsys)
    created = run("migrate", "new", "Add a Field!", "--migrations", str(own))
    path = Path(created["path"])
    assert (path.name, path.parent.parent) == ("migration.sql", own)
    assert (path.parent.name, len(created["version"])) == (f"{created['version']}_add_a_field", 14)
    assert path.read_text().startswith("-- Purpose: Add a Field!")
    path.unlink()
    with path.parent.joinpath("notes.txt").open("w"):
        pass
    assert run("migrate", "plan", "--migrations", str(own))["items"], (
        "a folder without a script is no migration"
    )


def test_table_rebuild_with_index_triggers_is_rolled_back_with_hint(
    deployed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "own"
    for name, _ in promptvault.LEDGER:
        (folder / name).mkdir(parents=True)
        script = (
            bundled_folder("migrations")
            / "promptvault"
            / "main"
            / "deployed"
            / "sqlite"
            / name
            / "migration.sql"
        )
        (folder / name / "migration.sql").write_bytes(script.read_bytes())
    (folder / "20260101000000_anew").mkdir()
    (folder / "20260101000000_anew" / "migration.sql").write_text(REBUILD)
    run = make_runner(str(deployed), capsys)
    before = rows(deployed, "select name, sql from sqlite_master order by name")
    up = ("migrate", "up", "--no-backup", "--migrations", str(folder))
    error = run(*up, status=1)
    assert (error["code"], "search index drop" in error["hint"]) == ("migration-failed", True)
    assert rows(deployed, "select name, sql from sqlite_master order by name") == before
    run("search", "index", "drop")
    assert len(run(*up)["items"]) == 1


@pytest.mark.parametrize(
    "variant",
    ["pushed", *(pytest.param(engine, marks=pytest.mark.slow) for engine in ("postgresql", "mysql"))],
)
def test_pushed_database_is_baselined_and_migrated(
    variant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for vault in vaults(variant, tmp_path):
        run = make_runner(vault.url, capsys)
        names = [migration["name"] for migration in run("migrate", "baseline")["items"]]
        assert names == [name for name, _ in promptvault.LEDGER], (
            "the migration of the indexes is pending, because the database has none"
        )
        run("migrate", "up")
        assert set(migration_states(run("migrate", "status")).values()) == {"applied"}
        findings = run("migrate", "drift")["findings"]
        assert {finding["severity"] for finding in findings} <= {"info"}, (
            "only the order of columns may differ"
        )
