"""Migrations: what state each is in, what ``up`` runs and refuses, and what a failure leaves behind."""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from dbctl.config import Selection
from dbctl.engines.registry import open_for_writing
from dbctl.errors import (
    AbilityMissingError,
    DatabaseMissingError,
    DbctlError,
    FileExistsAlreadyError,
    FileFailedError,
    LedgerMissingError,
    MigrationChangedError,
    MigrationFailedError,
    MigrationInvalidError,
    MigrationMissingError,
    MigrationsMissingError,
    MigrationsOutOfOrderError,
    MigrationsShippedError,
    MigrationsTwinnedError,
    MigrationsUnsoundError,
    ReadOnlyError,
    SchemaLacksError,
    ValueInvalidError,
    WrongAppError,
)
from dbctl.profiles import loader
from dbctl.services.app import app as apps
from dbctl.services.app.app import App
from dbctl.services.migrations import status, verify
from dbctl.services.migrations.files.new import NewMigration
from dbctl.services.migrations.up import Upgrade, apply_all
from dbctl.url import Url
from tests.shapes.flashpoint_web import deployed_user_db, document_user_db

FILES = {
    "001_users": "create table users (id integer primary key, name text);\ncreate table roles (id integer primary key);\n",
    "002_more": "create table role_permissions (id integer primary key);\ninsert into roles values (1), (2);\n",
    "003_notes": "-- Notes.\ncreate table notes (id integer primary key, body text default 'a;b');\n",
}


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
def opened(path: Path, timeout: float = 5) -> Iterator[App]:
    with apps.opened(Selection(profile="flashpoint-web", urls=[f"user={path}"]), timeout=timeout) as app:
        yield app


def up(path: Path, folder: Path | None, to: str = "") -> list[str]:
    with opened(path) as app:
        return [one.name for one in Upgrade(app, "user", folder, to=to).apply().items]


def states(path: Path, folder: Path | None = None) -> dict[str, str]:
    with opened(path) as app:
        return {one.name: one.state for one in status.survey([app], "user", folder).page.items}


def check(path: Path, folder: Path | None = None) -> int:
    with opened(path) as app:
        return status.survey([app], "user", folder).check


def query(path: Path, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql, parameters).fetchall()


def tables(path: Path) -> set[object]:
    return {
        name
        for (name,) in query(
            path, "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'"
        )
    }


def codes(path: Path, folder: Path | None) -> list[tuple[str, str]]:
    with opened(path) as app:
        found = verify.verify(app, "user", folder).findings
    return [(finding.severity, finding.code) for finding in found]


# Running ----------------------------------------------------------------------------------------------------------


def test_up_makes_the_file_the_ledger_and_every_table(path: Path, folder: Path) -> None:
    assert up(path, folder) == list(FILES)
    assert tables(path) == {"users", "roles", "role_permissions", "notes", "migrations"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert query(path, "pragma journal_mode") == [("wal",)]


def test_the_ledger_holds_what_the_app_itself_would_have_written(path: Path, folder: Path) -> None:
    before = datetime.now(UTC)
    up(path, folder)
    rows = query(
        path, "select name, applied_at, checksum, execution_time_ms, description from migrations order by id"
    )
    assert [(row[0], row[2], row[4]) for row in rows] == [
        (name, hashlib.sha256(text.encode()).hexdigest(), None) for name, text in FILES.items()
    ]
    for _, applied_at, _, lasted, _ in rows:
        assert isinstance(lasted, int)
        assert str(applied_at).endswith("Z")
        assert before - timedelta(seconds=1) <= datetime.fromisoformat(str(applied_at)) <= datetime.now(UTC)


def test_a_second_run_does_nothing(path: Path, folder: Path) -> None:
    up(path, folder)
    before = query(path, "select * from migrations")
    assert up(path, folder) == []
    assert query(path, "select * from migrations") == before


def test_an_empty_file_is_filled(path: Path, folder: Path) -> None:
    path.touch()
    assert up(path, folder) == list(FILES)


def test_up_stops_after_the_one_that_was_named(path: Path, folder: Path) -> None:
    assert up(path, folder, to="001_users.sql") == ["001_users"]
    assert up(path, folder, to="2") == ["002_more"]
    assert up(path, folder, to="002_more") == []
    assert up(path, folder, to="003") == ["003_notes"]


def test_a_target_that_is_no_migration_is_refused_before_a_file_is_made(path: Path, folder: Path) -> None:
    with pytest.raises(MigrationMissingError, match="'003_note'") as raised:
        up(path, folder, to="003_note")
    assert "003_notes" in raised.value.hint
    assert not path.exists()


def test_the_numbers_are_counted_not_spelled(path: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", {"1000_b": "create table b (x);", "999_a": "create table a (x);"})
    assert up(path, folder) == ["999_a", "1000_b"]


def test_the_shipped_migrations_make_a_database_that_the_profile_knows(path: Path) -> None:
    assert len(up(path, None)) == 4
    with opened(path) as app:
        assert app.reader("user").count("permissions") == 18
    assert set(states(path).values()) == {"applied"}
    assert codes(path, None) == []


def test_the_plan_needs_no_file_and_makes_none(path: Path, folder: Path) -> None:
    with opened(path) as app:
        plan = Upgrade(app, "user", folder).plan()
    assert plan.steps == [
        "run 001_users (2 statements)",
        "run 002_more (2 statements)",
        "run 003_notes (1 statement)",
    ]
    assert (plan.target, plan.destructive) == ("app/user", False)
    assert not path.exists()


def test_the_pending_ones_come_with_their_text(path: Path, folder: Path) -> None:
    up(path, folder, to="2")
    with opened(path) as app:
        (one,) = Upgrade(app, "user", folder).pending()
    assert (one.name, one.sql, one.statements) == ("003_notes", FILES["003_notes"].strip("\n"), 1)


def test_a_plan_shows_what_would_run_and_not_the_way_down(tmp_path: Path, answer: Any) -> None:
    folder = tmp_path / "sections"
    folder.mkdir()
    (folder / "001_a.sql").write_text("-- Up\ncreate table a (x);\n-- Down\ndrop table a;\n")
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as db:
        db.execute("pragma user_version = 0")
        db.execute("vacuum")
    words = ["--url", str(tmp_path / "app.db"), "migrate", "plan", "--migrations", str(folder)]
    (pending,) = answer(*words)["data"]["items"]
    assert "create table a" in pending["sql"]
    assert "drop table" not in pending["sql"]


def test_migrations_run_in_a_database_that_somebody_else_opened(path: Path) -> None:
    """As the sample data is made: with no configured app."""
    track = status.shipped_track(loader.load("flashpoint-web"), "user", "demo", "sqlite")
    opening = open_for_writing(
        Url(engine="sqlite", path=str(path)), track.target, timeout=1, pragmas={}, create={}
    )
    with closing(opening) as db:
        assert [one.version for one in apply_all(track, db)] == ["001", "002", "003", "004"]
        assert apply_all(track, db) == []
        assert db.count("migrations") == 4


@pytest.mark.parametrize("database", ["flashpoint", "user"])
def test_only_what_travels_along_can_be_run_without_a_configuration(database: str) -> None:
    profile = structs.replace(loader.load("flashpoint-web"), name="flashpoint-web-2")
    with pytest.raises((AbilityMissingError, MigrationsMissingError)):
        status.shipped_track(profile, database, "demo", "sqlite")


def test_what_the_app_applied_meanwhile_is_not_run_again(path: Path, tmp_path: Path) -> None:
    """The app knows nothing of dbctl's lock; a file run twice would fail or do its work twice."""
    meanwhile = "insert into migrations (name) values ('002_b')"
    folder = write(
        tmp_path / "m", {"001_a": f"create table a (x);\n{meanwhile};", "002_b": "create table a (x);"}
    )
    assert up(path, folder) == ["001_a"]
    assert check(path, folder) == 0


# What is refused ---------------------------------------------------------------------------------------------------


def test_a_ledger_with_names_that_the_folder_lacks_stops_everything(path: Path, folder: Path) -> None:
    deployed_user_db(path)
    before = query(path, "select * from migrations")
    assert states(path, folder)["001_complete_schema"] == "missing-file"
    with pytest.raises(MigrationsUnsoundError, match="001_complete_schema"):
        up(path, folder)
    assert query(path, "select * from migrations") == before


def test_the_deployed_ledger_fits_the_folder_of_the_app(path: Path, tmp_path: Path) -> None:
    """The file's text changed four times after deployments had run it; each text was published."""
    deployed_user_db(path)
    folder = write(
        tmp_path / "own",
        {"001_complete_schema": "create table if not exists users (id);", "bootstrap.sql": ""},
    )
    assert states(path, folder) == {"001_complete_schema": "applied"}
    write(folder, {"002_add": "create table extra (x);"})
    assert up(path, folder) == ["002_add"]
    assert check(path, folder) == 0


def test_rows_that_the_app_put_in_unseen_count_as_applied(path: Path, tmp_path: Path) -> None:
    deployed_user_db(path)
    query(path, "update migrations set checksum = null, execution_time_ms = null, description = 'detected'")
    folder = write(tmp_path / "own", {"001_complete_schema": "create table users (id);"})
    assert states(path, folder) == {"001_complete_schema": "applied"}


def test_files_that_the_app_removed_are_retired(path: Path, tmp_path: Path) -> None:
    deployed_user_db(path, era="D'")
    folder = write(tmp_path / "own", {"001_complete_schema": "create table users (id);"})
    assert states(path, folder) == {"001_complete_schema": "applied", "002_domains": "retired"}
    assert check(path, folder) == 0
    assert states(path) == {"001_complete_schema": "applied", "002_domains": "retired"}
    assert check(path) == 0


def test_retired_ones_do_not_make_the_schema_that_replaced_them_late(path: Path, tmp_path: Path) -> None:
    deployed_user_db(path, era="C")
    folder = write(tmp_path / "own", {"001_complete_schema": "create table if not exists users (id);"})
    assert states(path, folder)["001_complete_schema"] == "pending"
    assert up(path, folder) == ["001_complete_schema"]


def test_a_changed_file_stops_everything(path: Path, folder: Path) -> None:
    up(path, folder, to="2")
    write(folder, {"002_more": FILES["002_more"] + "-- later\n"})
    assert states(path, folder) == {"001_users": "applied", "002_more": "changed", "003_notes": "pending"}
    assert check(path, folder) == 4
    with pytest.raises(MigrationChangedError, match="002_more changed"):
        up(path, folder)
    assert "notes" not in tables(path)


def test_one_that_comes_late_is_refused(path: Path, folder: Path) -> None:
    up(path, folder)
    write(folder, {"002_late": "create table late (x);"})
    assert states(path, folder)["002_late"] == "out-of-order"
    assert check(path, folder) == 4
    with pytest.raises(MigrationsOutOfOrderError, match="002_late would run after 003_notes"):
        up(path, folder)


def test_two_files_of_one_number_are_refused_until_both_are_applied(path: Path, folder: Path) -> None:
    write(folder, {"003_other": "create table other (x);"})
    with pytest.raises(MigrationsTwinnedError, match="003_notes, 003_other cannot be told"):
        up(path, folder)
    assert not path.exists()
    (folder / "003_other.sql").unlink()
    up(path, folder)
    write(folder, {"003_other": "create table other (x);", "004_next": "create table next (x);"})
    query(path, "insert into migrations (name) values ('003_other')")
    assert up(path, folder) == ["004_next"]


def test_tables_without_a_ledger_are_not_guessed_about(path: Path) -> None:
    document_user_db(path)
    with opened(path) as app:
        survey = status.survey([app], "user")
    assert (survey.check, survey.status, survey.unrecorded) == (4, 0, ["app/user"])
    before = tables(path)
    with pytest.raises(LedgerMissingError):
        up(path, None)
    assert tables(path) == before
    assert ("error", "ledger-missing") in codes(path, None)


@pytest.mark.parametrize(
    "ledger", ["", "create table migrations (id integer, migration text, batch integer)"]
)
def test_a_database_of_another_app_is_told_apart(path: Path, folder: Path, ledger: str) -> None:
    query(path, "create table posts (id)")
    if ledger:
        query(path, ledger)
    with pytest.raises(WrongAppError):
        states(path, folder)
    with pytest.raises(WrongAppError):
        up(path, folder)
    assert "users" not in tables(path)


@pytest.mark.parametrize(
    ("ledger", "lacking"),
    [
        ("create table migrations (id integer primary key, filename text)", "migrations.name"),
        ("create table migrations (name text, run_on text)", "migrations.applied_at"),
        ("create table migrations (name text, applied_at text, batch integer not null)", "migrations.batch"),
    ],
)
def test_a_ledger_with_other_columns_is_explained(
    path: Path, folder: Path, ledger: str, lacking: str
) -> None:
    up(path, folder, to="2")
    query(path, "drop table migrations")
    query(path, ledger)
    if "batch" in ledger:
        query(path, "insert into migrations values ('001_w', '2026-01-01T00:00:00.000Z', 1)")
    with pytest.raises(SchemaLacksError, match=lacking):
        up(
            path,
            write(folder.parent / "fresh", {"001_w": "create table w (w);", "002_x": "create table x (x);"}),
        )
    assert "x" not in tables(path)


def test_a_ledger_without_checksum_and_duration_is_served(path: Path, folder: Path) -> None:
    query(path, "create table migrations (name text primary key, applied_at integer)")
    assert up(path, folder) == list(FILES)
    assert set(states(path, folder).values()) == {"applied"}


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
        ("", "holds no statement"),
        ("-- only words\n", "holds no statement"),
    ],
)
def test_a_file_that_cannot_be_run_stops_everything_before_it(
    path: Path, folder: Path, text: str | bytes, reason: str
) -> None:
    write(folder, {"004_bad": text})
    with pytest.raises(MigrationInvalidError, match=reason) as raised:
        up(path, folder)
    assert "004_bad.sql" in str(raised.value)
    assert not path.exists()
    assert up(path, folder, to="3") == list(FILES)  # the ones before it can be run by name
    assert ("error", "unusable") in codes(path, folder)


def test_a_file_that_cannot_be_read_is_no_missing_migration(path: Path, folder: Path) -> None:
    (folder / "004_gone.sql").symlink_to("nowhere")
    with pytest.raises(FileFailedError, match=r"004_gone\.sql"):
        states(path, folder)


def test_a_missing_folder_is_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(MigrationsMissingError, match="nowhere"):
        states(path, tmp_path / "nowhere")


def test_a_missing_database_has_no_status_and_its_directory_is_not_made(
    path: Path, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatabaseMissingError):
        states(path, folder)
    with pytest.raises(DatabaseMissingError):
        up(tmp_path / "none" / "user.db", folder)
    assert not (tmp_path / "none").exists()


def test_a_database_without_migrations_says_so(path: Path) -> None:
    with opened(path) as app, pytest.raises(AbilityMissingError, match="app/flashpoint"):
        status.survey([app], "flashpoint")


def test_a_second_hard_link_is_refused(path: Path, folder: Path, tmp_path: Path) -> None:
    up(path, folder, to="1")
    (tmp_path / "other.db").hardlink_to(path)
    with pytest.raises(ReadOnlyError, match="hard link"):
        up(path, folder)


# Failures in the middle ---------------------------------------------------------------------------------------------

BROKEN = "create table b1 (x);\n\ninsert into b1 values (1);\ninsert into nosuch values (1);\ncreate table b2 (x);\n"


def test_a_failure_says_where_and_what_stands(path: Path, folder: Path) -> None:
    write(folder, {"004_broken": BROKEN, "005_after": "create table after_it (x);"})
    up(path, folder, to="2")
    with pytest.raises(MigrationFailedError) as raised:
        up(path, folder)
    assert str(raised.value) == "app/user: 004_broken failed in statement 3 (line 4): no such table: nosuch"
    assert (
        raised.value.hint
        == "004_broken was rolled back whole. Done by this run: 003_notes; not run: 005_after."
    )
    assert {"notes"} <= tables(path)
    assert not {"b1", "b2", "after_it"} & tables(path)
    assert states(path, folder)["004_broken"] == "pending"
    write(folder, {"004_broken": BROKEN.replace("nosuch", "b1")})
    assert up(path, folder) == ["004_broken", "005_after"]


@pytest.mark.parametrize("at", range(1, 6))
def test_a_failure_at_any_statement_leaves_the_schema_as_it_was(path: Path, folder: Path, at: int) -> None:
    up(path, folder)
    before = query(path, "select type, name, sql from sqlite_master order by name")
    made = [f"create table s{number} (x);" for number in range(1, 6)]
    made[at - 1] = "select no_such_function();"
    write(folder, {"004_steps": "\n".join(made)})
    with pytest.raises(MigrationFailedError, match=rf"in statement {at} \(line {at}\)"):
        up(path, folder)
    assert query(path, "select type, name, sql from sqlite_master order by name") == before
    assert len(query(path, "select 1 from migrations")) == 3


def test_rows_that_would_point_to_nothing_fail_the_migration_that_makes_them(
    path: Path, folder: Path
) -> None:
    write(
        folder,
        {
            "004_keys": "create table p (id integer primary key);\n"
            "create table c (p integer references p (id) on delete cascade);\ninsert into p values (1);\ninsert into c values (1);",
            "005_loses": "delete from p;",
        },
    )
    with pytest.raises(
        MigrationFailedError, match="005_loses failed when it was to be committed: 1 row of c"
    ):
        up(path, folder)
    assert query(path, "select (select count(*) from p), (select count(*) from c)") == [(1, 1)]


def test_a_rebuild_keeps_the_rows_that_hang_on_it(path: Path, folder: Path) -> None:
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


def test_a_ledger_row_that_cannot_be_written_undoes_its_migration(path: Path, folder: Path) -> None:
    up(path, folder, to="2")
    query(path, "create trigger no before insert on migrations begin select raise(abort, 'not today'); end")
    with pytest.raises(MigrationFailedError, match="when it was to be recorded: not today"):
        up(path, folder)
    assert "notes" not in tables(path)


# Verify ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "now", "what"),
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
def test_verify_says_when_only_line_ends_or_the_mark_differ(
    path: Path, tmp_path: Path, stored: str, now: str, what: str
) -> None:
    folder = write(tmp_path / "m", {"001_users": stored})
    up(path, folder)
    assert codes(path, folder) == []
    write(folder, {"001_users": now})
    with opened(path) as app:
        (finding,) = verify.verify(app, "user", folder).findings
    assert (finding.severity, finding.code) == ("info", "same-text")
    assert finding.message == f"001_users is the text that was applied; only {what} differ"
    assert states(path, folder) == {"001_users": "applied"}
    assert up(path, folder) == []


def test_verify_tells_of_gaps_and_of_files_that_are_no_migrations(path: Path, folder: Path) -> None:
    up(path, folder)
    write(
        folder, {"007_far": "create table far (x);", "9_short.sql": "x", "notes.SQL": "x", "README.md": "x"}
    )
    (folder / "008_folder.sql").mkdir()
    with opened(path) as app:
        findings = verify.verify(app, "user", folder)
    assert [finding.code for finding in findings.findings] == ["ignored", "ignored", "gap"]
    assert findings.findings[2].message == "numbers 4 to 6 are missing"
    assert not findings.unsound
    assert findings.checked == 4


def test_verify_finds_every_kind_of_damage_in_one_run(path: Path, folder: Path) -> None:
    up(path, folder)
    write(
        folder,
        {"001_users": "other", "002_late": "create table late (x);", "005_a": "x", "005_b": "select 1;"},
    )
    (folder / "003_notes.sql").unlink()
    found = codes(path, folder)
    assert set(found) >= {
        ("error", "changed"),
        ("error", "missing-file"),
        ("error", "duplicate-version"),
        ("info", "gap"),
    }


# New ------------------------------------------------------------------------------------------------------------------


def begin(path: Path, folder: Path | None, words: str) -> NewMigration:
    with opened(path) as app:
        return NewMigration(app, status.tracks(app, "user", folder), words)


@pytest.mark.parametrize(
    ("files", "words", "expected"),
    [
        ([], "Add Notes", "001_add_notes"),
        (["001_user-schema", "002_create-user-settings"], "Add notes!", "003_add-notes"),
        (["0009-a_b"], "x y", "0010-x_y"),
        (["999_last"], "../../etc/passwd", "1000_etc_passwd"),
        (["001_a"], "Größe ändern", "002_groe_andern"),
    ],
)
def test_a_new_migration_is_called_as_its_neighbours_are(
    path: Path, tmp_path: Path, files: list[str], words: str, expected: str
) -> None:
    folder = write(tmp_path / "m", dict.fromkeys(files, "select 1;"))
    created = begin(path, folder, words).apply()
    assert created.path == folder / f"{expected}.sql"
    assert created.path.read_text().startswith(f"-- Purpose: {words}\n")
    assert [file.name for file in folder.iterdir() if file.name.startswith(".")] == []


def test_a_new_migration_is_pending_and_waits_for_its_first_statement(path: Path, folder: Path) -> None:
    up(path, folder)
    created = begin(path, folder, "more\nlines\x1b").apply()
    assert created.path.read_text().splitlines()[0] == "-- Purpose: more lines"
    with pytest.raises(MigrationInvalidError, match="holds no statement"):
        up(path, folder)
    with created.path.open("a") as file:
        file.write("create table more (x);\n")
    assert up(path, folder) == [created.name]


def test_a_new_migration_never_takes_the_place_of_a_file(path: Path, folder: Path) -> None:
    begun = begin(path, folder, "same")
    begin(path, folder, "same").apply()
    with pytest.raises(FileExistsAlreadyError):
        begun.apply()


def test_the_plan_of_a_new_migration_writes_nothing(path: Path, folder: Path) -> None:
    before = sorted(folder.iterdir())
    assert begin(path, folder, "same").plan().steps == [f"write {folder / '004_same.sql'}"]
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("words", ["", "---", "日本", "x" * 101])
def test_a_name_without_letters_or_too_long_is_refused(path: Path, folder: Path, words: str) -> None:
    with pytest.raises(ValueInvalidError):
        begin(path, folder, words)


def test_the_shipped_folder_takes_no_new_migration(path: Path) -> None:
    with pytest.raises(MigrationsShippedError):
        begin(path, None, "mine")


# Several apps -----------------------------------------------------------------------------------------------------------


def test_of_several_apps_those_that_can_be_looked_at_are_told(path: Path, tmp_path: Path) -> None:
    up(path, None)
    with opened(path) as good, opened(tmp_path / "none.db") as gone:
        survey = status.survey([good, gone])
        assert (survey.status, survey.check, len(survey.page.items)) == (12, 12, 4)
        assert isinstance(survey.failed[0], DatabaseMissingError)
        both = status.survey([gone, gone])
        assert (both.status, both.check) == (10, 10)
        with pytest.raises(DbctlError):
            status.survey([gone])
