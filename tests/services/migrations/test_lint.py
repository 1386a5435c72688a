"""Lint: what the files of migrations may do, told with file and line, with no database there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.config import Selection
from dbctl.errors import AbilityMissingError, MigrationsMissingError
from dbctl.profiles import loader
from dbctl.services.app import app as apps
from dbctl.services.migrations import lint as migration_lint
from dbctl.services.migrations.status import shipped_track
from dbctl.services.migrations.up import Upgrade

#: A server that nobody can connect to.
NOWHERE = "postgresql://nobody@nowhere.invalid/none"


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name.removeprefix('n')}.sql").write_text(text, encoding="utf-8")
    return folder


def lint(folder, *, url=NOWHERE, profile="plain", given=True, every=False):
    with apps.opened(Selection(profile=profile, urls=[f"main={url}"]), timeout=1) as app:
        return migration_lint.lint(app, "", folder if given else None, every=every)


def told(folder, **options):
    return [(one.severity, one.code, one.message) for one in lint(folder, **options).findings]


def codes(folder, **options):
    return [one.code for one in lint(folder, **options).findings]


def test_a_folder_is_looked_over_where_no_server_answers(tmp_path):
    folder = write(tmp_path / "m", n001_start="-- Tables.\ncreate table t (a int);\n\ndrop index old;\n")
    found = lint(folder)
    assert found.checked == 1
    assert [(one.target, one.severity, one.code, one.message) for one in found.findings] == [
        (
            "app/main",
            "warning",
            "index-locks",
            "001_start.sql:4: DROP INDEX old keeps everybody from its table, and waits for all who read it",
        )
    ]


def test_only_pending_files_are_told_of_and_all_of_them_where_that_is_asked(tmp_path):
    folder = write(tmp_path / "m", n001_start="-- Start.\ncreate table t (a int);\ndrop table if exists old;")
    database = tmp_path / "app.db"
    with apps.opened(Selection(profile="plain", urls=[f"main={database}"]), timeout=1) as app:
        Upgrade(app, "", folder).apply()
        write(folder, n002_more="-- More.\ndrop table if exists t;")
        app.configured.migrations["main"] = folder
        pending = migration_lint.lint(app)
        every = migration_lint.lint(app, every=True)
    assert [one.message for one in pending.findings] == ["002_more.sql:2: DROP TABLE t takes its rows away"]
    assert (pending.checked, every.checked) == (1, 2)
    assert [one.message[:10] for one in every.findings] == ["001_start.", "002_more.s"]


def test_every_file_is_pending_where_there_is_no_file_of_a_database(tmp_path):
    folder = write(tmp_path / "m", n001_start="-- Start.\ndrop table if exists old;")
    with apps.opened(Selection(profile="plain", urls=[f"main={tmp_path / 'none.db'}"]), timeout=1) as app:
        app.configured.migrations["main"] = folder
        assert [one.code for one in migration_lint.lint(app).findings] == ["drops-table"]
    assert not (tmp_path / "none.db").exists()


def test_a_file_that_cannot_be_run_is_an_error_and_the_others_are_told_of_all_the_same(tmp_path):
    folder = write(
        tmp_path / "m",
        n001_bad="-- Bad.\ncreate index concurrently i on t (a);",
        n002_open="-- Open.\nselect 'open",
        n003_more="-- More.\ndrop table if exists t;",
    )
    assert told(folder) == [
        (
            "error",
            "unusable",
            "001_bad.sql: line 2: CREATE INDEX CONCURRENTLY is not possible inside the transaction that all of it runs in; a line -- dbctl: no-transaction lets its statements run one by one",
        ),
        ("error", "unusable", "002_open.sql: it ends inside the statement that begins on line 2"),
        ("warning", "drops-table", "003_more.sql:2: DROP TABLE t takes its rows away"),
    ]


def test_what_is_meant_to_lose_rows_is_not_told_again(tmp_path):
    text = "-- Away with it.\n-- dbctl: allow-data-loss\ndrop table if exists t; delete from u;"
    assert codes(write(tmp_path / "m", n001_away=text)) == []


def test_a_line_above_a_statement_allows_it_there_and_nowhere_else(tmp_path):
    text = (
        "-- Away.\n\ndelete from a;\n-- dbctl: allow deletes-all, drops-table\ndelete from b;\ndelete from c;"
    )
    assert [message for _, _, message in told(write(tmp_path / "m", n001_away=text))] == [
        "001_away.sql:3: DELETE without WHERE takes every row of a away",
        "001_away.sql:6: DELETE without WHERE takes every row of c away",
    ]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("-- Away.\n-- dbctl: allow deletes-all\n\ndelete from a;\ndelete from b;", []),
        ("-- Away.\n-- dbctl: allow deletes-all\ndelete from a;\ndelete from b;", [4]),
        (
            "-- dbctl: allow deletes-all\n-- Up\n-- Away.\ndelete from a;\ndelete from b;\n-- Down\nselect 1;",
            [],
        ),
        (
            "-- Up\n-- Away.\n-- dbctl: allow deletes-all\ndelete from a;\ndelete from b;\n-- Down\nselect 1;",
            [5],
        ),
    ],
)
def test_above_everything_it_allows_it_in_all_of_the_file(tmp_path, text, lines):
    found = told(write(tmp_path / "m", n001_away=text))
    assert [int(message.split(":")[1]) for _, _, message in found] == lines


@pytest.mark.parametrize(
    "line", ["-- dbctl: allow nonsense", "-- dbctl: allow", "-- dbctl: allow drop-table"]
)
def test_what_lint_does_not_find_cannot_be_allowed(tmp_path, line):
    ((severity, code, message),) = told(write(tmp_path / "m", n001_away=f"{line}\nselect 1;"))
    assert (severity, code) == ("error", "unusable")
    assert message.startswith(f"001_away.sql: line 1: {line}")
    assert ("drops-table" in message) == line.endswith("drop-table")


def test_a_comment_that_the_apps_runner_takes_for_a_marker_is_an_error(tmp_path):
    text = "-- Up\n-- Tables.\ncreate table t (a int, b text default '-- Down'); -- downloads\n\n-- down the road\n-- Down\nselect 1;"
    found = told(write(tmp_path / "m", n001_start=text))
    assert [(code, message.split(":")[1]) for _, code, message in found] == [
        ("marker-hidden", "3"),
        ("marker-hidden", "3"),
        ("marker-hidden", "5"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-- What it is for.\nselect 1;", []),
        ("/* What it is for. */ select 1;", []),
        ("-- Updates what is old.\nselect 1;", []),
        ("-- Up\n-- What it is for.\nselect 1;\n-- Down\nselect 1;", []),
        ("select 1; -- late", ["no-purpose"]),
        ("\n-- dbctl: allow-data-loss\n\nselect 1;", ["no-purpose"]),
        ("-- ----\n\nselect 1;", ["no-purpose"]),
        ("-- Up\nselect 1;\n-- Down\nselect 1;", ["no-purpose"]),
        ("-- Up\n-- For this.\nselect 1;", ["no-down"]),
        ("-- migrate:up\n-- For this.\nselect 1;\n-- migrate:down\n-- nothing", ["no-down"]),
    ],
)
def test_a_purpose_and_a_way_down_are_missed(tmp_path, text, expected):
    found = lint(write(tmp_path / "m", n001_start=text)).findings
    assert [one.code for one in found] == expected
    assert {one.severity for one in found} <= {"info"}


def test_a_way_down_that_drops_the_ledger_is_an_error(tmp_path):
    text = "-- Up\n-- Start.\ncreate table t (a int);\n-- Down\ndrop table t;\ndrop table Schema_Migrations;"
    found = told(write(tmp_path / "m", n001_start=text))
    assert [(severity, code) for severity, code, _ in found] == [("error", "drops-ledger")]
    assert found[0][2].startswith("001_start.sql:6: ")


def test_a_way_down_in_a_file_of_its_own_is_named_by_that_file(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "1_start.up.sql").write_text("-- Start.\ncreate table t (a int);")
    (folder / "1_start.down.sql").write_text("drop table schema_migrations;")
    assert [message.split(":")[0] for _, _, message in told(folder)] == ["1_start.down.sql"]


def test_a_number_that_two_files_have_is_told_where_the_ledger_knows_numbers_alone(tmp_path):
    folder = write(tmp_path / "m", n001_one="-- One.\nselect 1;", n001_two="-- Two.\nselect 1;")
    assert codes(folder) == ["shared-number", "shared-number"]
    assert codes(folder, profile="flashpoint-web", url=tmp_path / "user.db") == []


def test_a_number_that_two_files_of_an_app_are_known_to_share_is_not_told(tmp_path):
    text = "-- Up\n-- So.\nselect 1;\n-- Down\nselect 1;"
    folder = write(tmp_path / "m", n006_drafts=text, n006_extended_model_types=text, n007_a=text, n007_b=text)
    with apps.opened(Selection(profile="yaai", urls=[f"app={tmp_path / 'app.db'}"]), timeout=1) as app:
        found = migration_lint.lint(app, "app", folder).findings
    assert [(one.code, one.message[:3]) for one in found] == [("shared-number", "007")] * 2


def test_what_an_apps_guidelines_ask_is_a_warning_there_and_nothing_elsewhere(tmp_path):
    text = "create table t (a int); insert into t values (1); drop table t;"
    folder = write(tmp_path / "m", n001_start=text)
    assert codes(folder, url=tmp_path / "app.db") == ["no-purpose"]
    found = told(folder, profile="flashpoint-web", url=tmp_path / "user.db")
    assert {severity for severity, _, _ in found} == {"warning"}
    assert [code for _, code, _ in found] == ["no-purpose", "no-if-not-exists", "no-insert-or-ignore"]


def test_files_that_are_not_there_and_apps_without_migrations_are_refused(tmp_path):
    with pytest.raises(MigrationsMissingError):
        lint(tmp_path / "none")
    with pytest.raises(AbilityMissingError):
        lint(tmp_path, profile=str(Path(__file__).parents[2] / "profiles/larder.toml"))


SHIPPED = [
    (name, database, engine)
    for name in loader.names()
    if name != "plain"
    for database, one in loader.load(name).databases.items()
    if one.migrations
    for engine in one.engines
]


@pytest.mark.parametrize(("profile", "database", "engine"), SHIPPED)
def test_what_is_shipped_has_neither_errors_nor_warnings(profile, database, engine):
    track = shipped_track(loader.load(profile), database, "app", engine)
    for one, names in migration_lint.all_of(track):
        assert [told for told in migration_lint.findings(one, names) if told.severity != "info"] == []


def test_nothing_is_left_beside_a_database_that_was_looked_at(tmp_path):
    folder = write(tmp_path / "m", n001_start="-- Start.\nselect 1;")
    database = tmp_path / "app.db"
    with closing(sqlite3.connect(database)) as db:
        db.execute("create table schema_migrations (version text primary key)")
    before = database.read_bytes()
    with apps.opened(Selection(profile="plain", urls=[f"main={database}"]), timeout=1) as app:
        app.configured.migrations["main"] = folder
        assert migration_lint.lint(app).checked == 1
    assert database.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["app.db", "m"]
