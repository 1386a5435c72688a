"""``migrate drift``: differences between the live schema and the applied migrations, with severities."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.config.sections import Selection
from dbctl.errors.migrations import (
    LedgerMissingError,
    MigrationFilesMissingError,
    MigrationInvalidError,
    ReplayFailedError,
    ReplayRefusedError,
)
from dbctl.errors.usage import WrongAppError
from dbctl.services.migrations.drift import drift
from dbctl.services.migrations.execution.plan import UpSelection
from dbctl.services.migrations.operations import MigrateUp
from dbctl.services.migrations.status import find_targets
from tests.services.migrations import deployments
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
    """Write the folder of the deployed app: one file that creates all tables except the ledger."""
    return write(
        tmp_path / "own", {"001_complete_schema": flashpoint_web.DEPLOYED.read_text(encoding="utf-8")}
    )


def open_app(path):
    from dbctl.services.app.session import open_app

    return open_app(Selection(profile="flashpoint-web", urls=[f"user={path}"]), timeout=1)


def up(path, folder, to=""):
    with open_app(path) as app:
        MigrateUp(app, find_targets(app, "user", folder), UpSelection(to=to)).apply()


def find_drift(path, folder=None):
    with open_app(path) as app:
        return drift(app, find_targets(app, "user", folder))


def list_findings(path, folder=None):
    return [
        (finding.severity, finding.code, finding.message) for finding in find_drift(path, folder).findings
    ]


def execute(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for sql in statements:
            db.execute(sql)


# No findings ------------------------------------------------------------------------------------------------------


def test_migrated_database_has_no_drift(path, folder):
    result = find_drift(path, folder)
    assert (list(result.findings), result.checked > 20) == ([], True)


def test_shipped_migrations_have_no_drift(tmp_path):
    path = tmp_path / "user.db"
    up(path, None)
    assert list_findings(path) == []


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_deployed_database_matches_custom_folder_and_leaves_no_files(tmp_path, own, journal):
    path = flashpoint_web.deployed_user_db(tmp_path / "deployed" / "user.db", journal=journal)
    before = path.read_bytes()
    assert [item.code for item in find_drift(path, own).findings] == []
    assert (path.read_bytes(), [item.name for item in path.parent.iterdir()]) == (before, ["user.db"])


def test_rows_and_ledger_changes_are_no_drift(path, folder):
    execute(
        path,
        "insert into users (name) values ('x')",
        "drop index idx_migrations_name",
        "alter table migrations add column more text",
        "analyze",
        "vacuum",
    )
    assert list_findings(path, folder) == []


# Findings and severities -------------------------------------------------------------------------------------------

REBUILT = "create table {0}_ ({1}); drop table {0}; alter table {0}_ rename to {0}"
USERS = "id integer primary key autoincrement, name text not null unique collate nocase, state text not null default 'new' check (state in ('new', 'old')), born text, size int"


def rebuild_users(old: str, new: str) -> list[str]:
    assert old in USERS
    dependents = [
        "create index by_state on users (state, born desc) where born is not null",
        "create trigger grow after insert on users begin update users set size = 1 where id = new.id; end",
        "create view old_users as select id, name from users where state = 'old'",
    ]
    return ["drop view old_users", *REBUILT.format("users", USERS.replace(old, new)).split("; "), *dependents]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["drop table notes"], ("error", "table-missing", "table notes is missing: id, words; created by 002_more")),
        (["create table hand (a)"], ("info", "table-extra", "table hand exists, but no migration creates it: a")),
        (["alter table roles drop column rank"], ("error", "column-missing", "roles.rank is missing: INTEGER default 5; created by 002_more")),
        (["alter table roles add column more text"], ("warning", "column-extra", "roles.more exists, but no migration creates it: TEXT")),
        (rebuild_users("size int", "size text"), ("error", "column-differs", "users.size: type TEXT in the database, type INT by 001_start")),
        (rebuild_users("size int", "size bigint"), ("info", "column-differs", "users.size: type BIGINT in the database, type INT by 001_start")),
        (rebuild_users("state text not null", "state text"), ("error", "column-differs", "users.state: null is allowed in the database, not null by 001_start")),
        (rebuild_users("born text", "born text not null default ''"), ("warning", "column-differs", "users.born: not null in the database, null is allowed by 001_start")),
        (rebuild_users("default 'new'", ""), ("error", "column-differs", "users.state: no default in the database, default 'new' by 001_start")),
        (rebuild_users("default 'new'", "default 'New'"), ("warning", "column-differs", "users.state: default 'New' in the database, default 'new' by 001_start")),
        (rebuild_users(" unique", ""), ("error", "index-missing", "a unique constraint of users is missing: unique (name collate NOCASE); created by 001_start")),
        (rebuild_users(" check (state in ('new', 'old'))", ""), ("error", "check-missing", "a check of users is missing: state in ('new', 'old'); created by 001_start")),
        (rebuild_users("'old'))", "'old', 'odd'))"), ("error", "check-differs", "a check of users: state in ('new', 'old', 'odd') in the database, state in ('new', 'old') by 001_start")),
        (rebuild_users("size int", "size int check (size < 9)"), ("warning", "check-extra", "a check of users exists, but no migration creates it: size < 9")),
        (rebuild_users(" autoincrement", ""), ("warning", "option-missing", "an option of users is missing: autoincrement; created by 001_start")),
        (rebuild_users("born text, size int", "size int, born text"), ("info", "order-differs", "the order of columns in users: id, name, state, size, born in the database, id, name, state, born, size by 001_start")),
        (rebuild_users("size int", "Size int"), ("warning", "column-differs", "users.size: spelt Size in the database, spelt size by 001_start")),
        (rebuild_users("size int", "size int, card text not null"), ("error", "column-extra", "users.card exists, but no migration creates it: TEXT not null")),
        (["drop index by_state"], ("warning", "index-missing", "index by_state of users is missing: (state, born desc) where born is not null; created by 001_start")),
        (["drop index one_label"], ("error", "index-missing", "index one_label of roles is missing: unique (label); created by 001_start")),
        (["create index by_rank on roles (rank)"], ("info", "index-extra", "index by_rank of roles exists, but no migration creates it: (rank)")),
        (["create unique index by_rank on roles (rank)"], ("warning", "index-extra", "index by_rank of roles exists, but no migration creates it: unique (rank)")),
        (["drop index by_state", "create index by_state on users (state)"], ("warning", "index-differs", "index by_state of users: (state) in the database, (state, born desc) where born is not null by 001_start")),
        (["drop index one_label", "create index one_label on roles (label)"], ("error", "index-differs", "index one_label of roles: (label) in the database, unique (label) by 001_start")),
        (["drop index one_label", "create unique index labels on roles (label)"], ("info", "index-differs", "an index of roles: labels unique (label) in the database, one_label unique (label) by 001_start")),
        (REBUILT.format("role_permissions", "role integer, permission text").split("; "), ("error", "reference-missing", "a foreign key of role_permissions is missing: (role) references roles (id) on delete cascade; created by 001_start")),
        (REBUILT.format("role_permissions", "role integer references roles, permission text").split("; "), ("error", "reference-differs", "a foreign key of role_permissions: (role) references roles (id) in the database, (role) references roles (id) on delete cascade by 001_start")),
        (REBUILT.format("notes", "id integer not null, words varchar(20), primary key (words)").split("; "), ("error", "key-differs", "the primary key of notes: words in the database, id by 002_more")),
        (["drop view old_users"], ("error", "view-missing", "view old_users is missing: as select id, name from users where state = 'old'; created by 002_more")),
        (["create view more as select 1"], ("info", "view-extra", "view more exists, but no migration creates it: as select 1")),
        (["drop trigger grow"], ("error", "trigger-missing", "trigger grow of users is missing: after insert on users begin update users set size = 1 where id = new.id; end; created by 002_more")),
        (["create trigger less after delete on users begin select 1; end"], ("warning", "trigger-extra", "trigger less of users exists, but no migration creates it: after delete on users begin select 1; end")),
        (["drop trigger grow", "create trigger grow after insert on users begin select 2; end"], ("error", "trigger-differs", "trigger grow of users: after insert on users begin select 2; end in the database, after insert on users begin update users set size = 1 where id = new.id; end by 002_more")),
        (["drop table note_words", "create virtual table note_words using fts5(words)"], ("error", "table-differs", "table note_words: using fts5(words) in the database, using fts5(words, content='notes') by 003_words")),
    ],
)  # fmt: skip
def test_each_difference_is_one_finding_with_both_sides(path, folder, change, expected):
    execute(path, *change)
    findings = list_findings(path, folder)
    assert expected in findings
    assert all(other[0] != "error" for other in findings if other != expected)


def test_missing_table_is_reported_once(path, folder):
    execute(path, "drop view old_users", "drop table users")
    assert [(code, message.split(":")[0]) for _, code, message in list_findings(path, folder)] == [
        ("table-missing", "table users is missing"),
        ("view-missing", "view old_users is missing"),
    ]


def test_equivalent_index_replaces_a_missing_constraint(path, folder):
    execute(path, *rebuild_users(" unique", ""), "create unique index names on users (name)")
    assert list_findings(path, folder) == [
        ("info", "index-differs", "an index of users: names unique (name collate NOCASE) in the database, a constraint unique (name collate NOCASE) by 001_start")
    ]  # fmt: skip


def test_finding_names_the_last_migration_that_changed_the_part(tmp_path):
    folder = write(tmp_path / "m", {
        "001_a": "create table users (id integer primary key, a text); create table roles (id); create table role_permissions (id);",
        "002_b": "alter table users rename column a to b;",
        "003_c": "create table more (x);",
    })  # fmt: skip
    path = tmp_path / "user.db"
    up(path, folder)
    execute(path, "alter table users rename column b to c", "drop table more")
    assert [message for _, _, message in list_findings(path, folder) if "missing" in message] == [
        "table more is missing: x; created by 003_c",
        "users.b is missing: TEXT; created by 002_b",
    ]


# Deployed databases ------------------------------------------------------------------------------------------------


def test_migration_recorded_without_running_is_reported_as_missing_parts(tmp_path, own):
    """The app records its first file without running it if the database has users and no ledger."""
    path = flashpoint_web.deployed_user_db(tmp_path / "user.db")
    execute(
        path,
        "update migrations set checksum = null, execution_time_ms = null, description = 'Legacy'",
        "drop table domains",
        "drop index idx_user_playlists_share_token",
        "alter table user_playlists drop column share_token",
        "drop index idx_system_settings_is_public",
    )
    suffix = "; created by 001_complete_schema"
    assert list_findings(path, own) == [
        ("error", "table-missing", f"table domains is missing: id, hostname, is_default, created_at, created_by{suffix}"),
        ("error", "column-missing", f"user_playlists.share_token is missing: TEXT{suffix}"),
        ("error", "index-missing", f"index idx_user_playlists_share_token of user_playlists is missing: unique (share_token) where share_token is not null{suffix}"),
        ("warning", "index-missing", f"index idx_system_settings_is_public of system_settings is missing: (is_public){suffix}"),
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
def test_each_era_of_deployed_databases_has_expected_findings(tmp_path, own, era, expected):
    path = flashpoint_web.deployed_user_db(tmp_path / "user.db", era=era)
    findings = sorted((severity, code) for severity, code, _ in list_findings(path, own))
    assert findings == sorted(expected)


def test_pending_migrations_are_not_expected_and_changed_files_are_compared(tmp_path, folder):
    path = tmp_path / "user.db"
    up(path, folder, to="002_more")
    assert [code for _, code, _ in list_findings(path, folder)] == ["pending"]
    write(folder, {"002_more": FILES["002_more"].replace("default 5", "default 6")})
    findings = list_findings(path, folder)
    assert [(severity, code) for severity, code, _ in findings] == [
        ("warning", "changed"),
        ("warning", "column-differs"),
        ("info", "pending"),
    ]
    assert findings[1][2] == "roles.rank: default 5 in the database, default 6 by 002_more"


def test_line_ends_are_ignored(path, folder):
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert list_findings(path, folder) == []


# Refusals ----------------------------------------------------------------------------------------------------------


def test_each_era_matches_the_shipped_files(tmp_path):
    for era in ("D", "D'", "E"):
        assert list_findings(flashpoint_web.deployed_user_db(tmp_path / f"{era}.db", era=era)) == []


def test_mismatched_folder_and_missing_ledger_are_refused(tmp_path, folder):
    with pytest.raises(MigrationFilesMissingError, match="001_complete_schema"):
        find_drift(flashpoint_web.deployed_user_db(tmp_path / "deployed.db"), folder)
    with pytest.raises(LedgerMissingError):
        find_drift(flashpoint_web.document_user_db(tmp_path / "document.db"), folder)
    with pytest.raises(WrongAppError):
        find_drift(flashpoint_web.document_flashpoint_db(tmp_path / "flashpoint.sqlite"), folder)


def test_failing_replay_names_migration_and_statement(path, folder):
    write(folder, {"002_more": "create table x (a);\ninsert into gone values (1);\n"})
    with pytest.raises(
        ReplayFailedError, match=r"002_more .* in statement 2 \(line 2\): no such table: gone"
    ):
        find_drift(path, folder)
    write(folder, {"002_more": "begin; create table x (a); commit;"})
    with pytest.raises(MigrationInvalidError):
        find_drift(path, folder)


@pytest.mark.parametrize(
    ("engine", "sql"),
    [
        ("mysql", "delete from {0}.books where id > 3"),
        ("mysql", "create event purge on schedule every 1 second do delete from {0}.books"),
        ("postgresql", "do $$ begin alter role {0} password 'first'; end $$"),
    ],
)
def test_statements_about_more_than_the_empty_database_are_refused(tmp_path, engine, sql):
    with deployments.create_desk(engine, tmp_path / "desk") as desk:
        desk.write(deployments.INITIAL_FILES)
        desk.up()
        desk.write({"003_purge": f"\n{sql.format(desk.base.own.path)};\n"})
        desk.dbctl("migrate", "mark", "003_purge", "--applied", "--yes")
        before = desk.base.content()
        with desk.open_app() as app, pytest.raises(ReplayRefusedError, match=r"run 003_purge .*\(line 2\)"):
            drift(app, find_targets(app))
        assert desk.base.content() == before


def test_a_script_may_run_a_text_and_read_the_catalog(tmp_path):
    with deployments.create_desk("mysql", tmp_path / "desk") as desk:
        sql = """select count(*) into @missing from information_schema.tables
            where table_schema = database() and table_name = 'shelves';
            set @mode = @@session.sql_mode;
            set @text = if(@missing = 0, 'create table shelves (id int primary key)', 'do 0');
            prepare change_tables from @text;
            execute change_tables;"""
        desk.write({**deployments.INITIAL_FILES, "003_shelves": sql})
        desk.up()
        with desk.open_app() as app:
            assert drift(app, find_targets(app)).findings == []


def test_an_empty_database_has_nothing_to_compare(tmp_path, folder):
    path = tmp_path / "user.db"
    path.touch()
    assert [code for _, code, _ in list_findings(path, folder)] == ["pending"]
