"""``migrate status``, ``up``, ``verify`` and ``new``: states, refusals and failures."""

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from dbctl.config.sections import Selection
from dbctl.engines.registry import load_engine
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.connection import (
    DatabaseMissingError,
    FileExistsAlreadyError,
    FileFailedError,
    ReadOnlyError,
)
from dbctl.errors.migrations import (
    DuplicateMigrationNumberError,
    LedgerMissingError,
    MigrationChangedError,
    MigrationFailedError,
    MigrationFilesMissingError,
    MigrationInvalidError,
    MigrationMissingError,
    MigrationsMissingError,
    MigrationsOutOfOrderError,
    MigrationsShippedError,
)
from dbctl.errors.usage import FeatureMissingError, SchemaMismatchError, ValueInvalidError, WrongAppError
from dbctl.profiles import loader
from dbctl.services.app import session
from dbctl.services.app.app import App
from dbctl.services.migrations import status, verify
from dbctl.services.migrations.database_plan import apply_all
from dbctl.services.migrations.execution.plan import UpSelection
from dbctl.services.migrations.files import loader as migration_files
from dbctl.services.migrations.files.new import CreateMigration
from dbctl.services.migrations.operations import MigrateUp
from dbctl.services.migrations.status import find_targets
from dbctl.url import Url
from tests.call_count import count_calls
from tests.in_process import CLEAN_ENVIRONMENT, run_command
from tests.shapes.flashpoint_web import deployed_user_db, document_user_db
from tools.reference import read_specs

FILES = {
    "001_users": "create table users (id integer primary key, name text);\ncreate table roles (id integer primary key);\n",
    "002_more": "create table role_permissions (id integer primary key);\ninsert into roles values (1), (2);\n",
    "003_notes": "-- Notes.\ncreate table notes (id integer primary key, body text default 'a;b');\n",
}

PUBLISHED_TEXT = (
    migration_files.find_shipped_path("flashpoint-web", "user", "sqlite", "deployed")
    / "001_complete_schema.sql"
).read_bytes()


def write(folder: Path, files: Mapping[str, str | bytes] = FILES) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        raw = text if isinstance(text, bytes) else text.encode()
        (folder / (name if "." in name else f"{name}.sql")).write_bytes(raw)
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "user.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "migrations")


@contextmanager
def open_app(path: Path, timeout: float = 5) -> Iterator[App]:
    with session.open_app(
        Selection(profile="flashpoint-web", urls=[f"user={path}"]),
        timeout=timeout,
        spec=read_specs()["migrate up"],
    ) as app:
        yield app


def up(path: Path, folder: Path | None, to: str = "") -> list[str]:
    with open_app(path) as app:
        return [
            migration.name
            for migration in MigrateUp(app, find_targets(app, "user", folder), UpSelection(to=to))
            .apply()
            .items
        ]


def read_states(path: Path, folder: Path | None = None) -> dict[str, str]:
    with open_app(path) as app:
        return {
            migration.name: migration.state
            for migration in status.collect_status([app], "user", folder).page.items
        }


def read_check_status(path: Path, folder: Path | None = None) -> int:
    with open_app(path) as app:
        return status.collect_status([app], "user", folder).check


def query(path: Path, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql, parameters).fetchall()


def list_tables(path: Path) -> set[object]:
    return {
        name
        for (name,) in query(
            path, "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'"
        )
    }


def list_codes(path: Path, folder: Path | None) -> list[tuple[str, str]]:
    with open_app(path) as app:
        findings = verify.verify(app, find_targets(app, "user", folder)).findings
    return [(finding.severity, finding.code) for finding in findings]


# Running ----------------------------------------------------------------------------------------------------------


def test_up_creates_file_ledger_and_tables(path: Path, folder: Path) -> None:
    assert up(path, folder) == list(FILES)
    assert list_tables(path) == {"users", "roles", "role_permissions", "notes", "migrations"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert query(path, "pragma journal_mode") == [("wal",)]


def test_ledger_contains_what_the_app_would_write(path: Path, folder: Path) -> None:
    before = datetime.now(UTC)
    up(path, folder)
    rows = query(
        path, "select name, applied_at, checksum, execution_time_ms, description from migrations order by id"
    )
    assert [(row[0], row[2], row[4]) for row in rows] == [
        (name, hashlib.sha256(text.encode()).hexdigest(), None) for name, text in FILES.items()
    ]
    for _, applied_at, _, duration, _ in rows:
        assert isinstance(duration, int)
        assert str(applied_at).endswith("Z")
        assert before - timedelta(seconds=1) <= datetime.fromisoformat(str(applied_at)) <= datetime.now(UTC)


def test_second_run_does_nothing(path: Path, folder: Path) -> None:
    up(path, folder)
    before = query(path, "select * from migrations")
    assert up(path, folder) == []
    assert query(path, "select * from migrations") == before


def test_an_empty_file_is_filled(path: Path, folder: Path) -> None:
    path.touch()
    assert up(path, folder) == list(FILES)


def test_up_stops_after_the_given_migration(path: Path, folder: Path) -> None:
    assert up(path, folder, to="001_users.sql") == ["001_users"]
    assert up(path, folder, to="2") == ["002_more"]
    assert up(path, folder, to="002_more") == []
    assert up(path, folder, to="003") == ["003_notes"]


def test_unknown_last_migration_is_refused_before_a_file_is_created(path: Path, folder: Path) -> None:
    with pytest.raises(MigrationMissingError, match="'003_note'") as raised:
        up(path, folder, to="003_note")
    assert "003_notes" in raised.value.hint
    assert not path.exists()


def test_numbers_are_sorted_numerically(path: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", {"1000_b": "create table b (x);", "999_a": "create table a (x);"})
    assert up(path, folder) == ["999_a", "1000_b"]


@pytest.mark.parametrize(
    "applied", [("6.9/01-a", "6.10/01-b"), ("6.65/02-c", "6.65.1/01-d"), ("9.1/01", "10.0/01")]
)
def test_last_version_of_an_app_is_the_highest(tmp_path: Path, applied: Sequence[str]) -> None:
    with closing(sqlite3.connect(tmp_path / "ghost.db")) as db:
        db.execute("create table migrations (name, version, currentVersion)")
        for table in ("users", "roles_users", "posts", "settings"):
            db.execute(f"create table {table} (id, email, password, status)")
        rows = [
            (name, version, version) for version, name in (title.split("/") for title in reversed(applied))
        ]
        db.executemany("insert into migrations values (?, ?, ?)", rows)
        db.commit()
    with session.open_app(Selection(profile="ghost", urls=[f"main={tmp_path}/ghost.db"]), timeout=5) as app:
        assert status.read_version(app, "main") == applied[-1]


def test_a_new_database_has_the_schema_of_the_deployed_app(path: Path, tmp_path: Path) -> None:
    assert up(path, None) == ["001_complete_schema"]
    deployed = deployed_user_db(tmp_path / "deployed.db")
    schemas = [
        query(file, "select type, name, sql from sqlite_master order by 1, 2") for file in (path, deployed)
    ]
    assert schemas[0] == schemas[1]
    assert read_states(path) == {"001_complete_schema": "applied"}
    assert list_codes(path, None) == []


def test_a_new_database_has_the_schema_of_the_document_with_its_variant(path: Path) -> None:
    with open_app(path) as app:
        targets = find_targets(app, "user", variant="document")
        assert len(MigrateUp(app, targets, UpSelection()).apply().items) == 4
        assert app.reader("user").count("permissions") == 18
    assert set(read_states(path).values()) == {"applied"}
    assert list_codes(path, None) == []


def test_plan_creates_no_file(path: Path, folder: Path) -> None:
    with open_app(path) as app:
        plan = MigrateUp(app, find_targets(app, "user", folder)).plan()
    assert plan.steps == [
        "run 001_users (2 statements)",
        "run 002_more (2 statements)",
        "run 003_notes (1 statement)",
    ]
    assert (plan.target, plan.destructive) == ("app/user", False)
    assert not path.exists()


def test_pending_migrations_contain_their_sql(path: Path, folder: Path) -> None:
    up(path, folder, to="2")
    with open_app(path) as app:
        (migration,) = MigrateUp(app, find_targets(app, "user", folder)).list_pending()
    assert (migration.name, migration.sql, migration.statements) == (
        "003_notes",
        FILES["003_notes"].strip("\n"),
        1,
    )


def test_plan_shows_the_up_section_only(tmp_path: Path, answer: Any) -> None:
    folder = tmp_path / "sections"
    folder.mkdir()
    (folder / "001_a.sql").write_text("-- Up\ncreate table a (x);\n-- Down\ndrop table a;\n")
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as db:
        db.execute("pragma user_version = 0")
        db.execute("vacuum")
    arguments = ["--url", str(tmp_path / "app.db"), "migrate", "plan", "--migrations", str(folder)]
    (pending,) = answer(*arguments)["data"]["items"]
    assert "create table a" in pending["sql"]
    assert "drop table" not in pending["sql"]


def test_migrations_run_in_an_open_database(path: Path) -> None:
    """``dbctl demo`` creates sample databases in this way, without a configured app."""
    target = status.create_shipped_target(
        loader.load("flashpoint-web"), "user", "demo", "sqlite", variant="document"
    )
    writer = load_engine("sqlite").open_for_writing(
        Url(engine="sqlite", path=str(path)), target.name, timeout=1, pragmas={}, create={}
    )
    with closing(writer) as db:
        assert [migration.version for migration in apply_all(target, db)] == ["001", "002", "003", "004"]
        assert apply_all(target, db) == []
        assert db.count("migrations") == 4


@pytest.mark.parametrize("database", ["flashpoint", "user"])
def test_only_shipped_migrations_run_without_a_configuration(database: str) -> None:
    profile = structs.replace(loader.load("flashpoint-web"), name="flashpoint-web-2")
    with pytest.raises((FeatureMissingError, MigrationsMissingError)):
        status.create_shipped_target(profile, database, "demo", "sqlite")


def test_migration_applied_concurrently_is_not_run_again(path: Path, tmp_path: Path) -> None:
    """The app does not use the lock of dbctl; a file that runs twice could fail or duplicate rows."""
    insert = "insert into migrations (name) values ('002_b')"
    folder = write(
        tmp_path / "m", {"001_a": f"create table a (x);\n{insert};", "002_b": "create table a (x);"}
    )
    assert up(path, folder) == ["001_a"]
    assert read_check_status(path, folder) == 0


# Refusals --------------------------------------------------------------------------------------------------------


def test_ledger_with_unknown_names_is_refused(path: Path, folder: Path) -> None:
    deployed_user_db(path)
    before = query(path, "select * from migrations")
    assert read_states(path, folder)["001_complete_schema"] == "missing-file"
    with pytest.raises(MigrationFilesMissingError, match="001_complete_schema"):
        up(path, folder)
    assert query(path, "select * from migrations") == before


def test_deployed_ledger_matches_the_custom_folder(path: Path, tmp_path: Path) -> None:
    """The file was changed four times after deployments had applied it; each text was published."""
    deployed_user_db(path)
    folder = write(tmp_path / "own", {"001_complete_schema": PUBLISHED_TEXT, "bootstrap.sql": ""})
    assert read_states(path, folder) == {"001_complete_schema": "applied"}
    write(folder, {"002_add": "create table extra (x);"})
    assert up(path, folder) == ["002_add"]
    assert read_check_status(path, folder) == 0


def test_rows_without_checksum_are_applied(path: Path, tmp_path: Path) -> None:
    deployed_user_db(path)
    query(path, "update migrations set checksum = null, execution_time_ms = null, description = 'detected'")
    folder = write(tmp_path / "own", {"001_complete_schema": PUBLISHED_TEXT})
    assert read_states(path, folder) == {"001_complete_schema": "applied"}


@pytest.mark.parametrize("has_checksum", [True, False])
def test_an_altered_published_file_is_changed_in_every_answer(
    path: Path, tmp_path: Path, *, has_checksum: bool
) -> None:
    """The recorded text is published, and the file has one that the app never published."""
    deployed_user_db(path)
    if not has_checksum:
        query(path, "update migrations set checksum = null")
    folder = write(tmp_path / "own", {"001_complete_schema": PUBLISHED_TEXT + b"drop table users;\n"})
    (tmp_path / "dbctl.toml").write_text(
        '[apps.arcade]\nprofile = "flashpoint-web"\n[apps.arcade.databases]\nuser = "user.db"\n'
        '[apps.arcade.migrations]\nuser = "own"\n'
    )

    def run(words: str) -> int:
        return run_command(
            ["--db", "user", *words.split()], environment=CLEAN_ENVIRONMENT, cwd=tmp_path
        ).returncode

    assert read_states(path, folder) == {"001_complete_schema": "changed"}
    for words in ("status --check", "migrate status --check", "migrate verify", "migrate up", "doctor"):
        assert run(words) == Exit.CHECK_FAILED, words
    assert run("migrate repair --checksums") == Exit.OK
    assert read_check_status(path, folder) == run("migrate verify") == Exit.OK


@pytest.mark.slow
def test_cost_of_status_is_linear_in_the_number_of_migrations(tmp_path: Path) -> None:
    def count_status_calls(count: int) -> int:
        names = [f"{number:04}_t{number}" for number in range(count)]
        folder = write(
            tmp_path / f"{count}-files",
            {name: f"create table t{name} (id integer primary key);\n" for name in names},
        )
        path = tmp_path / f"{count}.db"
        assert up(path, folder) == names
        return count_calls(lambda: read_states(path, folder))

    count_status_calls(10)
    assert count_status_calls(400) < 4.5 * count_status_calls(100)


def test_removed_files_are_retired(path: Path, tmp_path: Path) -> None:
    deployed_user_db(path, era="D'")
    folder = write(tmp_path / "own", {"001_complete_schema": PUBLISHED_TEXT})
    assert read_states(path, folder) == {"001_complete_schema": "applied", "002_domains": "retired"}
    assert read_check_status(path, folder) == 0
    assert read_states(path) == {"001_complete_schema": "applied", "002_domains": "retired"}
    assert read_check_status(path) == 0


def test_retired_migrations_do_not_make_others_out_of_order(path: Path, tmp_path: Path) -> None:
    deployed_user_db(path, era="C")
    folder = write(tmp_path / "own", {"001_complete_schema": "create table if not exists users (id);"})
    assert read_states(path, folder)["001_complete_schema"] == "pending"
    assert up(path, folder) == ["001_complete_schema"]


def test_changed_file_is_refused(path: Path, folder: Path) -> None:
    up(path, folder, to="2")
    write(folder, {"002_more": FILES["002_more"] + "-- later\n"})
    assert read_states(path, folder) == {
        "001_users": "applied",
        "002_more": "changed",
        "003_notes": "pending",
    }
    assert read_check_status(path, folder) == 4
    with pytest.raises(MigrationChangedError, match="002_more changed"):
        up(path, folder)
    assert "notes" not in list_tables(path)


def test_out_of_order_migration_is_refused(path: Path, folder: Path) -> None:
    up(path, folder)
    write(folder, {"002_late": "create table late (x);"})
    assert read_states(path, folder)["002_late"] == "out-of-order"
    assert read_check_status(path, folder) == 4
    with pytest.raises(MigrationsOutOfOrderError, match="002_late would run after 003_notes"):
        up(path, folder)


def test_duplicate_number_is_refused_until_both_are_applied(path: Path, folder: Path) -> None:
    write(folder, {"003_other": "create table other (x);"})
    with pytest.raises(DuplicateMigrationNumberError, match="003_notes, 003_other share their number"):
        up(path, folder)
    assert not path.exists()
    (folder / "003_other.sql").unlink()
    up(path, folder)
    write(folder, {"003_other": "create table other (x);", "004_next": "create table next (x);"})
    query(path, "insert into migrations (name) values ('003_other')")
    assert up(path, folder) == ["004_next"]


def test_tables_without_a_ledger_are_refused(path: Path) -> None:
    document_user_db(path)
    with open_app(path) as app:
        result = status.collect_status([app], "user")
    assert (result.check, result.status, result.unrecorded) == (4, 0, ["app/user"])
    before = list_tables(path)
    with pytest.raises(LedgerMissingError):
        up(path, None)
    assert list_tables(path) == before
    assert ("error", "ledger-missing") in list_codes(path, None)
    with open_app(path) as app:
        findings = verify.verify(app, find_targets(app, "user", None)).findings
    assert any("migrate baseline" in finding.hint for finding in findings if finding.code == "ledger-missing")


@pytest.mark.parametrize(
    "ledger", ["", "create table migrations (id integer, migration text, batch integer)"]
)
def test_database_of_another_app_is_refused(path: Path, folder: Path, ledger: str) -> None:
    query(path, "create table posts (id)")
    if ledger:
        query(path, ledger)
    with pytest.raises(WrongAppError):
        read_states(path, folder)
    with pytest.raises(WrongAppError):
        up(path, folder)
    assert "users" not in list_tables(path)


@pytest.mark.parametrize(
    ("ledger", "missing"),
    [
        ("create table migrations (id integer primary key, filename text)", "migrations.name"),
        ("create table migrations (name text, run_on text)", "migrations.applied_at"),
        ("create table migrations (name text, applied_at text, batch integer not null)", "migrations.batch"),
    ],
)
def test_ledger_with_other_columns_is_refused_with_the_column(
    path: Path, folder: Path, ledger: str, missing: str
) -> None:
    up(path, folder, to="2")
    query(path, "drop table migrations")
    query(path, ledger)
    if "batch" in ledger:
        query(path, "insert into migrations values ('001_w', '2026-01-01T00:00:00.000Z', 1)")
    with pytest.raises(SchemaMismatchError, match=missing):
        up(
            path,
            write(folder.parent / "fresh", {"001_w": "create table w (w);", "002_x": "create table x (x);"}),
        )
    assert "x" not in list_tables(path)


def test_ledger_without_checksum_and_duration_is_supported(path: Path, folder: Path) -> None:
    query(path, "create table migrations (name text primary key, applied_at integer)")
    assert up(path, folder) == list(FILES)
    assert set(read_states(path, folder).values()) == {"applied"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("create table a (x);\n\ncommit;", "line 3: COMMIT"),
        ("begin;\ncreate table a (x);", "line 1: BEGIN"),
        ("create table a (x);\nattach 'b' as b;", "line 2: ATTACH"),
        ("create table a (x);\nvacuum;", "line 2: VACUUM"),
        ("create table a (x);\npragma journal_mode = wal;", "line 2: PRAGMA journal_mode"),
        ("create table a (x);\ncreate trigger t after insert on a begin select 1;", "begins on line 2"),
        ("create table a (x);\n-- caf\xe9".encode("latin-1"), "line 2 is not UTF-8"),
        ("", "contains no statement"),
        ("-- only words\n", "contains no statement"),
    ],
)
def test_invalid_file_is_refused_before_anything_runs(
    path: Path, folder: Path, text: str | bytes, reason: str
) -> None:
    write(folder, {"004_bad": text})
    with pytest.raises(MigrationInvalidError, match=reason) as raised:
        up(path, folder)
    assert "004_bad.sql" in str(raised.value)
    assert not path.exists()
    assert up(path, folder, to="3") == list(FILES)  # the ones before it can be run by name
    assert ("error", "unusable") in list_codes(path, folder)


def test_unreadable_file_is_an_error(path: Path, folder: Path) -> None:
    (folder / "004_gone.sql").symlink_to("nowhere")
    with pytest.raises(FileFailedError, match=r"004_gone\.sql"):
        read_states(path, folder)


def test_missing_folder_is_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(MigrationsMissingError, match="nowhere"):
        read_states(path, tmp_path / "nowhere")


def test_missing_database_has_no_status_and_no_directory_is_created(
    path: Path, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatabaseMissingError):
        read_states(path, folder)
    with pytest.raises(DatabaseMissingError):
        up(tmp_path / "none" / "user.db", folder)
    assert not (tmp_path / "none").exists()


def test_database_without_migrations_is_refused(path: Path) -> None:
    with open_app(path) as app, pytest.raises(FeatureMissingError, match="app/flashpoint"):
        status.collect_status([app], "flashpoint")


def test_second_hard_link_is_refused(path: Path, folder: Path, tmp_path: Path) -> None:
    up(path, folder, to="1")
    (tmp_path / "other.db").hardlink_to(path)
    with pytest.raises(ReadOnlyError, match="hard link"):
        up(path, folder)


# Failures ---------------------------------------------------------------------------------------------------------

BROKEN = "create table b1 (x);\n\ninsert into b1 values (1);\ninsert into nosuch values (1);\ncreate table b2 (x);\n"


def test_failure_names_the_statement_and_the_applied_migrations(path: Path, folder: Path) -> None:
    write(folder, {"004_broken": BROKEN, "005_after": "create table after_it (x);"})
    up(path, folder, to="2")
    with pytest.raises(MigrationFailedError) as raised:
        up(path, folder)
    assert str(raised.value) == "app/user: 004_broken failed in statement 3 (line 4): no such table: nosuch"
    assert (
        raised.value.hint
        == "004_broken was rolled back completely. Done by this run: 003_notes; not run: 005_after."
    )
    assert {"notes"} <= list_tables(path)
    assert not {"b1", "b2", "after_it"} & list_tables(path)
    assert read_states(path, folder)["004_broken"] == "pending"
    write(folder, {"004_broken": BROKEN.replace("nosuch", "b1")})
    assert up(path, folder) == ["004_broken", "005_after"]


@pytest.mark.parametrize("position", range(1, 6))
def test_failure_at_any_statement_leaves_the_schema_unchanged(
    path: Path, folder: Path, position: int
) -> None:
    up(path, folder)
    before = query(path, "select type, name, sql from sqlite_master order by name")
    statements = [f"create table s{number} (x);" for number in range(1, 6)]
    statements[position - 1] = "select no_such_function();"
    write(folder, {"004_steps": "\n".join(statements)})
    with pytest.raises(MigrationFailedError, match=rf"in statement {position} \(line {position}\)"):
        up(path, folder)
    assert query(path, "select type, name, sql from sqlite_master order by name") == before
    assert len(query(path, "select 1 from migrations")) == 3


def test_orphaned_rows_fail_their_migration(path: Path, folder: Path) -> None:
    write(
        folder,
        {
            "004_keys": "create table p (id integer primary key);\n"
            "create table c (p integer references p (id) on delete cascade);\ninsert into p values (1);\ninsert into c values (1);",
            "005_loses": "delete from p;",
        },
    )
    with pytest.raises(MigrationFailedError, match="005_loses failed during the commit: 1 row of c"):
        up(path, folder)
    assert query(path, "select (select count(*) from p), (select count(*) from c)") == [(1, 1)]


def test_rebuild_keeps_referencing_rows(path: Path, folder: Path) -> None:
    write(
        folder,
        {
            "004_keys": "create table p (id integer primary key);\n"
            "create table c (p integer references p (id) on delete cascade);\ninsert into p values (1);\ninsert into c values (1);",
            "005_rebuild": "create table p2 (id integer primary key, name text);\ninsert into p2 (id) select id from p;\n"
            "drop table p;\nalter table p2 rename to p;",
        },
    )
    up(path, folder)
    assert query(path, "select p from c") == [(1,)]


def test_failed_ledger_write_rolls_the_migration_back(path: Path, folder: Path) -> None:
    up(path, folder, to="2")
    query(path, "create trigger no before insert on migrations begin select raise(abort, 'not today'); end")
    with pytest.raises(MigrationFailedError, match="while it was recorded: not today"):
        up(path, folder)
    assert "notes" not in list_tables(path)


# Verify ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "current", "difference"),
    [
        ("create table users (id);\n", "create table users (id);\r\n", "line ends"),
        ("create table users (id);\r\n", "create table users (id);\n", "line ends"),
        ("create table users (id);\n", "\ufeffcreate table users (id);\n", "a byte order mark"),
        ("\ufeffcreate table users (id);\n", "create table users (id);\n", "a byte order mark"),
        (
            "\ufeffcreate table users (id);\r\n",
            "create table users (id);\n",
            "line ends and a byte order mark",
        ),
        (
            "create table users (id);\n",
            "\ufeffcreate table users (id);\r\n",
            "line ends and a byte order mark",
        ),
        ("\ufeffcreate table users (id);\n", "\ufeffcreate table users (id);\r\n", "line ends"),
    ],
)
def test_verify_reports_line_ends_and_byte_order_marks(
    path: Path, tmp_path: Path, stored: str, current: str, difference: str
) -> None:
    folder = write(tmp_path / "m", {"001_users": stored})
    up(path, folder)
    assert list_codes(path, folder) == []
    write(folder, {"001_users": current})
    with open_app(path) as app:
        (finding,) = verify.verify(app, find_targets(app, "user", folder)).findings
    assert (finding.severity, finding.code) == ("info", "same-text")
    assert finding.message == f"001_users has the applied text; only {difference} differ"
    assert read_states(path, folder) == {"001_users": "applied"}
    assert up(path, folder) == []


def test_verify_reports_gaps_and_ignored_files(path: Path, folder: Path) -> None:
    up(path, folder)
    write(
        folder, {"007_far": "create table far (x);", "9_short.sql": "x", "notes.SQL": "x", "README.md": "x"}
    )
    (folder / "008_folder.sql").mkdir()
    with open_app(path) as app:
        findings = verify.verify(app, find_targets(app, "user", folder))
    assert [finding.code for finding in findings.findings] == ["file-ignored", "file-ignored", "number-gap"]
    assert findings.findings[2].message == "numbers 4 to 6 are missing"
    assert not findings.has_errors
    assert findings.checked == 4


def test_verify_reports_every_problem_in_one_run(path: Path, folder: Path) -> None:
    up(path, folder)
    write(
        folder,
        {"001_users": "other", "002_late": "create table late (x);", "005_a": "x", "005_b": "select 1;"},
    )
    (folder / "003_notes.sql").unlink()
    pairs = list_codes(path, folder)
    assert set(pairs) >= {
        ("error", "changed"),
        ("error", "missing-file"),
        ("error", "duplicate-version"),
        ("info", "number-gap"),
    }


# New ------------------------------------------------------------------------------------------------------------------


def create_migration(path: Path, folder: Path | None, purpose: str) -> CreateMigration:
    with open_app(path) as app:
        return CreateMigration(app, status.find_targets(app, "user", folder), purpose)


@pytest.mark.parametrize(
    ("files", "purpose", "expected"),
    [
        ([], "Add Notes", "001_add_notes"),
        (["001_user-schema", "002_create-user-settings"], "Add notes!", "003_add-notes"),
        (["0009-a_b"], "x y", "0010-x_y"),
        (["999_last"], "../../etc/passwd", "1000_etc_passwd"),
        (["001_a"], "Größe ändern", "002_groe_andern"),
    ],
)
def test_new_migration_is_named_like_the_others(
    path: Path, tmp_path: Path, files: list[str], purpose: str, expected: str
) -> None:
    folder = write(tmp_path / "m", dict.fromkeys(files, "select 1;"))
    created = create_migration(path, folder, purpose).apply()
    assert created.path == folder / f"{expected}.sql"
    assert created.path.read_text().startswith(f"-- Purpose: {purpose}\n")
    assert [file.name for file in folder.iterdir() if file.name.startswith(".")] == []


def test_new_migration_is_pending_and_requires_a_statement(path: Path, folder: Path) -> None:
    up(path, folder)
    created = create_migration(path, folder, "more\nlines\x1b").apply()
    assert created.path.read_text().splitlines()[0] == "-- Purpose: more lines"
    with pytest.raises(MigrationInvalidError, match="contains no statement"):
        up(path, folder)
    with created.path.open("a") as file:
        file.write("create table more (x);\n")
    assert up(path, folder) == [created.name]


@pytest.mark.parametrize("name", [b"005_add\xc2\xa0table.sql", b"005_\xff.sql", b"\xe2\x80\x8b005_x.sql"])
def test_migration_whose_name_cannot_be_shown_is_refused(path: Path, folder: Path, name: bytes) -> None:
    up(path, folder)
    (folder / os.fsdecode(name)).write_text("create table more (x);\n")
    with pytest.raises(MigrationInvalidError, match="cannot be shown"):
        up(path, folder)


def test_new_migration_never_replaces_a_file(path: Path, folder: Path) -> None:
    creation = create_migration(path, folder, "same")
    create_migration(path, folder, "same").apply()
    with pytest.raises(FileExistsAlreadyError):
        creation.apply()


def test_plan_of_a_new_migration_writes_nothing(path: Path, folder: Path) -> None:
    before = sorted(folder.iterdir())
    assert create_migration(path, folder, "same").plan().steps == [f"write {folder / '004_same.sql'}"]
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("purpose", ["", "---", "日本", "x" * 101])
def test_a_name_without_letters_or_too_long_is_refused(path: Path, folder: Path, purpose: str) -> None:
    with pytest.raises(ValueInvalidError):
        create_migration(path, folder, purpose)


def test_new_migration_in_the_shipped_folder_is_refused(path: Path) -> None:
    with pytest.raises(MigrationsShippedError):
        create_migration(path, None, "mine")


# Several apps -----------------------------------------------------------------------------------------------------------


def test_status_of_several_apps_includes_failures(path: Path, tmp_path: Path) -> None:
    up(path, None)
    with open_app(path) as valid, open_app(tmp_path / "none.db") as missing:
        result = status.collect_status([valid, missing])
        assert (result.status, result.check, len(result.page.items)) == (12, 12, 1)
        assert isinstance(result.failed[0], DatabaseMissingError)
        all_missing = status.collect_status([missing, missing])
        assert (all_missing.status, all_missing.check) == (10, 10)
        with pytest.raises(DbctlError):
            status.collect_status([missing])
