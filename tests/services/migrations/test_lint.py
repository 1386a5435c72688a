"""``migrate lint``: findings with file and line, without a database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.config.sections import Selection
from dbctl.errors.migrations import MigrationsMissingError
from dbctl.errors.usage import FeatureMissingError
from dbctl.profiles import loader
from dbctl.services.migrations import lint as migration_lint
from dbctl.services.migrations.operations import MigrateUp
from dbctl.services.migrations.status import create_shipped_target, find_targets

#: An unreachable server.
NOWHERE = "postgresql://nobody@nowhere.invalid/none"


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name.removeprefix('n')}.sql").write_text(text, encoding="utf-8")
    return folder


def lint_folder(app, database="", folder=None, *, all_files=False):
    all_files = all_files or folder is not None
    targets = find_targets(app, database, folder, may_connect=not all_files)
    return migration_lint.lint(app, targets, all_files=all_files)


def lint(folder, *, url=NOWHERE, profile="plain", with_folder=True, all_files=False):
    from dbctl.services.app.session import open_app

    with open_app(Selection(profile=profile, urls=[f"main={url}"]), timeout=1) as app:
        return lint_folder(app, "", folder if with_folder else None, all_files=all_files)


def list_findings(folder, **options):
    return [(finding.severity, finding.code, finding.message) for finding in lint(folder, **options).findings]


def list_codes(folder, **options):
    return [finding.code for finding in lint(folder, **options).findings]


def test_folder_is_linted_without_a_server(tmp_path):
    folder = write(tmp_path / "m", n001_start="-- Tables.\ncreate table t (a int);\n\ndrop index old;\n")
    result = lint(folder)
    assert result.checked == 1
    assert [
        (finding.target, finding.severity, finding.code, finding.message) for finding in result.findings
    ] == [
        (
            "app/main",
            "warning",
            "index-locks",
            "001_start.sql:4: DROP INDEX old locks its table, and waits for all readers",
        )
    ]


def test_pending_files_are_linted_and_all_files_on_request(tmp_path):
    from dbctl.services.app.session import open_app

    folder = write(tmp_path / "m", n001_start="-- Start.\ncreate table t (a int);\ndrop table if exists old;")
    database = tmp_path / "app.db"
    with open_app(Selection(profile="plain", urls=[f"main={database}"]), timeout=1) as app:
        MigrateUp(app, find_targets(app, "", folder)).apply()
        write(folder, n002_more="-- More.\ndrop table if exists t;")
        app.configured.migrations["main"] = folder
        pending = lint_folder(app)
        all_files = lint_folder(app, all_files=True)
    assert [finding.message for finding in pending.findings] == [
        "002_more.sql:2: DROP TABLE t deletes its rows"
    ]
    assert (pending.checked, all_files.checked) == (1, 2)
    assert [finding.message[:10] for finding in all_files.findings] == ["001_start.", "002_more.s"]


def test_all_files_are_pending_without_a_database(tmp_path):
    from dbctl.services.app.session import open_app

    folder = write(tmp_path / "m", n001_start="-- Start.\ndrop table if exists old;")
    with open_app(Selection(profile="plain", urls=[f"main={tmp_path / 'none.db'}"]), timeout=1) as app:
        app.configured.migrations["main"] = folder
        assert [finding.code for finding in lint_folder(app).findings] == ["drops-table"]
    assert not (tmp_path / "none.db").exists()


def test_invalid_file_is_an_error_and_others_are_linted(tmp_path):
    folder = write(
        tmp_path / "m",
        n001_bad="-- Bad.\ncreate index concurrently i on t (a);",
        n002_open="-- Open.\nselect 'open",
        n003_more="-- More.\ndrop table if exists t;",
    )
    assert list_findings(folder) == [
        (
            "error",
            "unusable",
            "001_bad.sql: line 2: CREATE INDEX CONCURRENTLY is not possible inside the transaction of the script; a line -- dbctl: no-transaction lets its statements run one by one",
        ),
        ("error", "unusable", "002_open.sql: the text ends inside the statement that begins on line 2"),
        ("warning", "drops-table", "003_more.sql:2: DROP TABLE t deletes its rows"),
    ]


def test_allowed_data_loss_is_not_reported(tmp_path):
    text = "-- Away with it.\n-- dbctl: allow-data-loss\ndrop table if exists t; delete from u;"
    assert list_codes(write(tmp_path / "m", n001_away=text)) == []


def test_allow_line_covers_only_the_next_statement(tmp_path):
    text = (
        "-- Away.\n\ndelete from a;\n-- dbctl: allow deletes-all, drops-table\ndelete from b;\ndelete from c;"
    )
    assert [message for _, _, message in list_findings(write(tmp_path / "m", n001_away=text))] == [
        "001_away.sql:3: DELETE without WHERE removes every row of a",
        "001_away.sql:6: DELETE without WHERE removes every row of c",
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
def test_allow_line_at_the_top_covers_the_file(tmp_path, text, lines):
    findings = list_findings(write(tmp_path / "m", n001_away=text))
    assert [int(message.split(":")[1]) for _, _, message in findings] == lines


@pytest.mark.parametrize(
    "line", ["-- dbctl: allow nonsense", "-- dbctl: allow", "-- dbctl: allow drop-table"]
)
def test_unknown_code_cannot_be_allowed(tmp_path, line):
    ((severity, code, message),) = list_findings(write(tmp_path / "m", n001_away=f"{line}\nselect 1;"))
    assert (severity, code) == ("error", "unusable")
    assert message.startswith(f"001_away.sql: line 1: {line}")
    assert ("drops-table" in message) == line.endswith("drop-table")


def test_comment_similar_to_a_marker_is_an_error(tmp_path):
    text = "-- Up\n-- Tables.\ncreate table t (a int, b text default '-- Down'); -- downloads\n\n-- down the road\n-- Down\nselect 1;"
    findings = list_findings(write(tmp_path / "m", n001_start=text))
    assert [(code, message.split(":")[1]) for _, code, message in findings] == [
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
        ("select 1; -- late", ["missing-description"]),
        ("\n-- dbctl: allow-data-loss\n\nselect 1;", ["missing-description"]),
        ("-- ----\n\nselect 1;", ["missing-description"]),
        ("-- Up\nselect 1;\n-- Down\nselect 1;", ["missing-description"]),
        ("-- Up\n-- For this.\nselect 1;", ["no-down"]),
        ("-- migrate:up\n-- For this.\nselect 1;\n-- migrate:down\n-- nothing", ["no-down"]),
    ],
)
def test_missing_description_and_down_section_are_reported(tmp_path, text, expected):
    findings = lint(write(tmp_path / "m", n001_start=text)).findings
    assert [finding.code for finding in findings] == expected
    assert {finding.severity for finding in findings} <= {"info"}


def test_down_section_that_drops_the_ledger_is_an_error(tmp_path):
    text = "-- Up\n-- Start.\ncreate table t (a int);\n-- Down\ndrop table t;\ndrop table Schema_Migrations;"
    findings = list_findings(write(tmp_path / "m", n001_start=text))
    assert [(severity, code) for severity, code, _ in findings] == [("error", "drops-ledger")]
    assert findings[0][2].startswith("001_start.sql:6: ")


def test_finding_in_a_down_file_names_that_file(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "1_start.up.sql").write_text("-- Start.\ncreate table t (a int);")
    (folder / "1_start.down.sql").write_text("drop table schema_migrations;")
    assert [message.split(":")[0] for _, _, message in list_findings(folder)] == ["1_start.down.sql"]


def test_shared_number_is_reported_for_version_ledgers(tmp_path):
    folder = write(tmp_path / "m", n001_one="-- One.\nselect 1;", n001_two="-- Two.\nselect 1;")
    assert list_codes(folder) == ["shared-number", "shared-number"]
    assert list_codes(folder, profile="flashpoint-web", url=tmp_path / "user.db") == []


def test_known_shared_number_is_not_reported(tmp_path):
    from dbctl.services.app.session import open_app

    text = "-- Up\n-- So.\nselect 1;\n-- Down\nselect 1;"
    folder = write(tmp_path / "m", n006_drafts=text, n006_extended_model_types=text, n007_a=text, n007_b=text)
    with open_app(Selection(profile="yaai", urls=[f"app={tmp_path / 'app.db'}"]), timeout=1) as app:
        findings = lint_folder(app, "app", folder).findings
    assert [(finding.code, finding.message[:3]) for finding in findings] == [("shared-number", "007")] * 2


def test_guidelines_of_a_profile_are_warnings(tmp_path):
    text = "create table t (a int); insert into t values (1); drop table t;"
    folder = write(tmp_path / "m", n001_start=text)
    assert list_codes(folder, url=tmp_path / "app.db") == ["missing-description"]
    findings = list_findings(folder, profile="flashpoint-web", url=tmp_path / "user.db")
    assert {severity for severity, _, _ in findings} == {"warning"}
    assert [code for _, code, _ in findings] == [
        "missing-description",
        "no-if-not-exists",
        "no-insert-or-ignore",
    ]


def test_missing_folder_and_app_without_migrations_are_refused(tmp_path):
    with pytest.raises(MigrationsMissingError):
        lint(tmp_path / "none")
    with pytest.raises(FeatureMissingError):
        lint(tmp_path, profile=str(Path(__file__).parents[2] / "profiles/larder.toml"))


SHIPPED = [
    (name, database, engine)
    for name in loader.names()
    if (Path(__file__).parents[3] / "migrations" / name).is_dir()
    for database, section in loader.load(name).databases.items()
    if section.migrations
    for engine in section.engines
]


@pytest.mark.parametrize(("profile", "database", "engine"), SHIPPED)
def test_shipped_migrations_have_no_errors_or_warnings(profile, database, engine):
    shipped = create_shipped_target(loader.load(profile), database, "app", engine)
    for target, names in migration_lint.iterate_variants(shipped):
        assert [
            finding for finding in migration_lint.lint_files(target, names) if finding.severity != "info"
        ] == []


def test_lint_leaves_no_files_next_to_the_database(tmp_path):
    from dbctl.services.app.session import open_app

    folder = write(tmp_path / "m", n001_start="-- Start.\nselect 1;")
    database = tmp_path / "app.db"
    with closing(sqlite3.connect(database)) as db:
        db.execute("create table schema_migrations (version text primary key)")
    before = database.read_bytes()
    with open_app(Selection(profile="plain", urls=[f"main={database}"]), timeout=1) as app:
        app.configured.migrations["main"] = folder
        assert lint_folder(app).checked == 1
    assert database.read_bytes() == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["app.db", "m"]
