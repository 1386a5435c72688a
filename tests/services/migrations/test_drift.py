"""Drift: what the live schema has otherwise than its applied migrations make it, told once, with its weight."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.config import Selection
from dbctl.errors import (
    LedgerMissingError,
    MigrationInvalidError,
    MigrationsUnsoundError,
    ReplayFailedError,
    WrongAppError,
)
from dbctl.services.app import app as apps
from dbctl.services.migrations.drift import drift
from dbctl.services.migrations.up import Upgrade
from tests.shapes import flashpoint_web

FILES = {
    "001_start": """create table users (id integer primary key autoincrement, name text not null unique collate nocase,
        state text not null default 'new' check (state in ('new', 'old')), born text, size int);
        create table roles (id integer primary key, label text);
        create table role_permissions (role integer references roles (id) on delete cascade, permission text);
        create index by_state on users (state, born desc) where born is not null;
        create unique index one_label on roles (label);""",
    "002_more": """alter table roles add column rank integer default 5;
        create table notes (id integer primary key, words varchar(20));
        create view old_users as select id, name from users where state = 'old';
        create trigger grow after insert on users begin update users set size = 1 where id = new.id; end;""",
    "003_words": "create virtual table note_words using fts5(words, content='notes');",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.sql").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "migrations", FILES)


@pytest.fixture
def path(tmp_path, folder):
    path = tmp_path / "user.db"
    up(path, folder)
    return path


@pytest.fixture
def own(tmp_path):
    """The folder of the deployed app: the one file that makes everything but the ledger."""
    return write(
        tmp_path / "own", {"001_complete_schema": flashpoint_web.DEPLOYED.read_text(encoding="utf-8")}
    )


def opened(path):
    return apps.opened(Selection(profile="flashpoint-web", urls=[f"user={path}"]), timeout=1)


def up(path, folder, to=""):
    with opened(path) as app:
        Upgrade(app, "user", folder, to=to).apply()


def look(path, folder=None):
    with opened(path) as app:
        return drift(app, "user", folder)


def told(path, folder=None):
    return [(one.severity, one.code, one.message) for one in look(path, folder).findings]


def execute(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for sql in statements:
            db.execute(sql)


# Nothing found -----------------------------------------------------------------------------------------------------


def test_a_database_that_its_migrations_made_has_no_drift(path, folder):
    found = look(path, folder)
    assert (list(found.findings), found.checked > 20) == ([], True)


def test_the_documents_database_agrees_with_the_shipped_migrations(tmp_path):
    path = tmp_path / "user.db"
    up(path, None)
    assert told(path) == []


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_deployed_database_agrees_with_the_apps_own_folder_and_nothing_is_left_beside_it(
    tmp_path, own, journal
):
    path = flashpoint_web.deployed_user_db(tmp_path / "deployed" / "user.db", journal=journal)
    before = path.read_bytes()
    assert [one.code for one in look(path, own).findings] == []
    assert (path.read_bytes(), [one.name for one in path.parent.iterdir()]) == (before, ["user.db"])


def test_rows_times_and_the_ledger_itself_are_no_drift(path, folder):
    execute(
        path,
        "insert into users (name) values ('x')",
        "drop index idx_migrations_name",
        "alter table migrations add column more text",
        "analyze",
        "vacuum",
    )
    assert told(path, folder) == []


# What is told, and how gravely -------------------------------------------------------------------------------------

REBUILT = "create table {0}_ ({1}); drop table {0}; alter table {0}_ rename to {0}"
USERS = "id integer primary key autoincrement, name text not null unique collate nocase, state text not null default 'new' check (state in ('new', 'old')), born text, size int"


def users(old: str, new: str) -> list[str]:
    assert old in USERS
    kept = [
        "create index by_state on users (state, born desc) where born is not null",
        "create trigger grow after insert on users begin update users set size = 1 where id = new.id; end",
        "create view old_users as select id, name from users where state = 'old'",
    ]
    return ["drop view old_users", *REBUILT.format("users", USERS.replace(old, new)).split("; "), *kept]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["drop table notes"], ("error", "table-missing", "table notes is missing: id, words; 002_more makes it")),
        (["create table hand (a)"], ("info", "table-extra", "table hand is there, and no migration makes it: a")),
        (["alter table roles drop column rank"], ("error", "column-missing", "roles.rank is missing: INTEGER default 5; 002_more makes it")),
        (["alter table roles add column more text"], ("warning", "column-extra", "roles.more is there, and no migration makes it: TEXT")),
        (users("size int", "size text"), ("error", "column-differs", "users.size: type TEXT here, type INT by 001_start")),
        (users("size int", "size bigint"), ("info", "column-differs", "users.size: type BIGINT here, type INT by 001_start")),
        (users("state text not null", "state text"), ("error", "column-differs", "users.state: null is allowed here, not null by 001_start")),
        (users("born text", "born text not null default ''"), ("warning", "column-differs", "users.born: not null here, null is allowed by 001_start")),
        (users("default 'new'", ""), ("error", "column-differs", "users.state: no default here, default 'new' by 001_start")),
        (users("default 'new'", "default 'New'"), ("warning", "column-differs", "users.state: default 'New' here, default 'new' by 001_start")),
        (users(" unique", ""), ("error", "index-missing", "a unique constraint of users is missing: unique (name collate NOCASE); 001_start makes it")),
        (users(" check (state in ('new', 'old'))", ""), ("error", "check-missing", "a check of users is missing: state in ('new', 'old'); 001_start makes it")),
        (users("'old'))", "'old', 'odd'))"), ("error", "check-differs", "a check of users: state in ('new', 'old', 'odd') here, state in ('new', 'old') by 001_start")),
        (users("size int", "size int check (size < 9)"), ("warning", "check-extra", "a check of users is there, and no migration makes it: size < 9")),
        (users(" autoincrement", ""), ("warning", "option-missing", "an option of users is missing: autoincrement; 001_start makes it")),
        (users("born text, size int", "size int, born text"), ("info", "order-differs", "the order of columns in users: id, name, state, size, born here, id, name, state, born, size by 001_start")),
        (users("size int", "Size int"), ("warning", "column-differs", "users.size: spelt Size here, spelt size by 001_start")),
        (users("size int", "size int, card text not null"), ("error", "column-extra", "users.card is there, and no migration makes it: TEXT not null")),
        (["drop index by_state"], ("warning", "index-missing", "index by_state of users is missing: (state, born desc) where born is not null; 001_start makes it")),
        (["drop index one_label"], ("error", "index-missing", "index one_label of roles is missing: unique (label); 001_start makes it")),
        (["create index by_rank on roles (rank)"], ("info", "index-extra", "index by_rank of roles is there, and no migration makes it: (rank)")),
        (["create unique index by_rank on roles (rank)"], ("warning", "index-extra", "index by_rank of roles is there, and no migration makes it: unique (rank)")),
        (["drop index by_state", "create index by_state on users (state)"], ("warning", "index-differs", "index by_state of users: (state) here, (state, born desc) where born is not null by 001_start")),
        (["drop index one_label", "create index one_label on roles (label)"], ("error", "index-differs", "index one_label of roles: (label) here, unique (label) by 001_start")),
        (["drop index one_label", "create unique index labels on roles (label)"], ("info", "index-differs", "an index of roles: labels unique (label) here, one_label unique (label) by 001_start")),
        (REBUILT.format("role_permissions", "role integer, permission text").split("; "), ("error", "reference-missing", "a foreign key of role_permissions is missing: (role) references roles (id) on delete cascade; 001_start makes it")),
        (REBUILT.format("role_permissions", "role integer references roles, permission text").split("; "), ("error", "reference-differs", "a foreign key of role_permissions: (role) references roles (id) here, (role) references roles (id) on delete cascade by 001_start")),
        (REBUILT.format("notes", "id integer not null, words varchar(20), primary key (words)").split("; "), ("error", "key-differs", "the primary key of notes: words here, id by 002_more")),
        (["drop view old_users"], ("error", "view-missing", "view old_users is missing: as select id, name from users where state = 'old'; 002_more makes it")),
        (["create view more as select 1"], ("info", "view-extra", "view more is there, and no migration makes it: as select 1")),
        (["drop trigger grow"], ("error", "trigger-missing", "trigger grow is missing: after insert on users begin update users set size = 1 where id = new.id; end; 002_more makes it")),
        (["create trigger less after delete on users begin select 1; end"], ("warning", "trigger-extra", "trigger less is there, and no migration makes it: after delete on users begin select 1; end")),
        (["drop trigger grow", "create trigger grow after insert on users begin select 2; end"], ("error", "trigger-differs", "trigger grow: after insert on users begin select 2; end here, after insert on users begin update users set size = 1 where id = new.id; end by 002_more")),
        (["drop table note_words", "create virtual table note_words using fts5(words)"], ("error", "table-differs", "table note_words: using fts5(words) here, using fts5(words, content='notes') by 003_words")),
    ],
)  # fmt: skip
def test_one_difference_is_one_finding_with_both_sides_told(path, folder, change, expected):
    execute(path, *change)
    found = told(path, folder)
    assert expected in found
    assert all(other[0] != "error" for other in found if other != expected)


def test_a_table_that_is_gone_is_told_once_and_not_by_its_parts(path, folder):
    execute(path, "drop view old_users", "drop table users")
    assert [(code, message.split(":")[0]) for _, code, message in told(path, folder)] == [
        ("table-missing", "table users is missing"),
        ("view-missing", "view old_users is missing"),
    ]


def test_a_constraint_and_an_index_that_does_its_work_are_not_both_missing(path, folder):
    execute(path, *users(" unique", ""), "create unique index names on users (name)")
    assert told(path, folder) == [
        ("info", "index-differs", "an index of users: names unique (name collate NOCASE) here, a constraint unique (name collate NOCASE) by 001_start")
    ]  # fmt: skip


def test_the_migration_that_is_named_is_the_one_that_made_it_as_it_is_in_the_end(tmp_path):
    folder = write(tmp_path / "m", {
        "001_a": "create table users (id integer primary key, a text); create table roles (id); create table role_permissions (id);",
        "002_b": "alter table users rename column a to b;",
        "003_c": "create table more (x);",
    })  # fmt: skip
    path = tmp_path / "user.db"
    up(path, folder)
    execute(path, "alter table users rename column b to c", "drop table more")
    assert [message for _, _, message in told(path, folder) if "missing" in message] == [
        "table more is missing: x; 003_c makes it",
        "users.b is missing: TEXT; 002_b makes it",
    ]


# What real ledgers hide ---------------------------------------------------------------------------------------------


def test_a_file_that_was_recorded_without_being_run_lacks_exactly_what_drift_tells(tmp_path, own):
    """The app records its first file in a database that has users and no ledger, and never runs it."""
    path = flashpoint_web.deployed_user_db(tmp_path / "user.db")
    execute(
        path,
        "update migrations set checksum = null, execution_time_ms = null, description = 'Legacy'",
        "drop table domains",
        "drop index idx_user_playlists_share_token",
        "alter table user_playlists drop column share_token",
        "drop index idx_system_settings_is_public",
    )
    maker = "; 001_complete_schema makes it"
    assert told(path, own) == [
        ("error", "table-missing", f"table domains is missing: id, hostname, is_default, created_at, created_by{maker}"),
        ("error", "column-missing", f"user_playlists.share_token is missing: TEXT{maker}"),
        ("error", "index-missing", f"index idx_user_playlists_share_token of user_playlists is missing: unique (share_token) where share_token is not null{maker}"),
        ("warning", "index-missing", f"index idx_system_settings_is_public of system_settings is missing: (is_public){maker}"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("era", "expected"),
    [
        ("C", [("warning", "not-compared"), ("info", "pending")]),
        ("D", []),
        ("D'", []),
        ("E", []),
    ],
)  # fmt: skip
def test_each_era_of_deployed_databases_is_told_for_what_it_is(tmp_path, own, era, expected):
    path = flashpoint_web.deployed_user_db(tmp_path / "user.db", era=era)
    found = sorted((severity, code) for severity, code, _ in told(path, own))
    assert found == sorted(expected)


def test_what_is_pending_is_not_expected_yet_and_an_altered_file_is_compared_as_it_is_now(tmp_path, folder):
    path = tmp_path / "user.db"
    up(path, folder, to="002_more")
    assert [code for _, code, _ in told(path, folder)] == ["pending"]
    write(folder, {"002_more": FILES["002_more"].replace("default 5", "default 6")})
    found = told(path, folder)
    assert [(severity, code) for severity, code, _ in found] == [
        ("warning", "changed"),
        ("warning", "column-differs"),
        ("info", "pending"),
    ]
    assert found[1][2] == "roles.rank: default 5 here, default 6 by 002_more"


def test_other_line_ends_are_no_other_text(path, folder):
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert told(path, folder) == []


# Refused -----------------------------------------------------------------------------------------------------------


def test_each_era_of_deployed_databases_agrees_with_the_files_that_travel_with_dbctl(tmp_path):
    for era in ("D", "D'", "E"):
        assert told(flashpoint_web.deployed_user_db(tmp_path / f"{era}.db", era=era)) == []


def test_a_folder_whose_names_do_not_fit_the_ledger_and_a_database_without_one_are_refused(tmp_path, folder):
    with pytest.raises(MigrationsUnsoundError, match="001_complete_schema"):
        look(flashpoint_web.deployed_user_db(tmp_path / "deployed.db"), folder)
    with pytest.raises(LedgerMissingError):
        look(flashpoint_web.document_user_db(tmp_path / "document.db"), folder)
    with pytest.raises(WrongAppError):
        look(flashpoint_web.document_flashpoint_db(tmp_path / "flashpoint.sqlite"), folder)


def test_a_migration_that_cannot_run_anew_is_named_with_its_statement_and_nothing_is_guessed(path, folder):
    write(folder, {"002_more": "create table x (a);\ninsert into gone values (1);\n"})
    with pytest.raises(
        ReplayFailedError, match=r"002_more .* in statement 2 \(line 2\): no such table: gone"
    ):
        look(path, folder)
    write(folder, {"002_more": "begin; create table x (a); commit;"})
    with pytest.raises(MigrationInvalidError):
        look(path, folder)


def test_an_empty_database_has_nothing_to_compare(tmp_path, folder):
    path = tmp_path / "user.db"
    path.touch()
    assert [code for _, code, _ in told(path, folder)] == ["pending"]
