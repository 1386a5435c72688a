"""Commands with findings in the formats of CI systems, and commands without findings, which refuse them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from dbctl.cli.main import main
from dbctl.render.streams import Format
from tests import examples
from tests.render import validators
from tests.render.test_reports import FORMATS, HOSTILE, READERS
from tests.services.flashpoint_app import copy_deployment
from tests.services.fleet_app import NAMES, create_fleet, tenant_path
from tools import reference

CONFIGURATION = """\
[apps.arcade]
profile = "flashpoint-web"
backup.repository = "backups"
backup.max_age = "1s"
[apps.arcade.databases]
user = "user.db"
[apps.arcade.migrations]
user = "migrations"
"""
WITH_FINDINGS = {name for name, spec in reference.read_specs().items() if spec.findings}
#: The examples of commands with findings; a dry run has none.
EXAMPLES = [
    line
    for line in examples.read_examples("flashpoint-web")
    if reference.find_spec(line).findings and "--dry-run" not in line
]


@pytest.fixture(scope="module")
def arcade(tmp_path_factory):
    """An app with hostile texts in its database, a damaged backup, and migrations with risks."""
    folder = tmp_path_factory.mktemp("arcade")
    copy_deployment(folder)
    (folder / "backend/user.db").rename(folder / "user.db")
    (folder / ".git").mkdir()
    (folder / "dbctl.toml").write_text(CONFIGURATION)
    (folder / "migrations").mkdir()
    (folder / "migrations/001_first.sql").write_text("-- First.\ndrop table users;\n")
    hostile = HOSTILE.encode(errors="surrogatepass").replace(b"\0", b"")
    with closing(sqlite3.connect(folder / "user.db")) as connection, connection:
        name = '"' + hostile.decode(errors="replace").replace('"', '""') + '"'
        connection.execute(f"create table {name} (user_id integer references users (id))")
        connection.execute(f"insert into {name} values (99)")
        connection.execute("update users set email = cast(? as text) where id = 3", [hostile])
    return folder


@pytest.fixture
def run(arcade, monkeypatch, capsys):
    """Run a command in the folder of the app; return its exit code and both outputs."""
    monkeypatch.chdir(arcade)
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")

    def run_command(*words):
        capsys.readouterr()
        status = main([*words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_command


def list_failures(output, text):
    """Return the number of findings that are failures."""
    document = READERS[output](text)
    if output is Format.SARIF:
        return sum(result["level"] == "error" for result in document["results"])
    if output is Format.JUNIT:
        return len(document.findall(".//failure"))
    if output is Format.GITLAB:
        return sum(issue["severity"] == "critical" for issue in document)
    return sum(level == "error" for level, _, _ in document)


@pytest.mark.parametrize("line", EXAMPLES)
def test_report_is_valid_and_fails_if_the_command_fails(run, arcade, line):
    words = line.format(app="arcade").split()
    if words[0] == "backup":
        run("backup", "create")
    status, text, _ = run(*words, "-o", "json")
    has_error = json.loads(text)["error"] is not None
    for output in FORMATS:
        exit_code, text, error = run(*words, "-o", output)
        assert exit_code == status, error
        failures = list_failures(output, text)
        if not has_error and ("status" not in words or "--check" in words):  # status alone succeeds
            assert bool(failures) == (status != 0), text


def test_an_example_is_tested_for_each_command_with_findings():
    assert not WITH_FINDINGS & examples.list_untested(EXAMPLES)


def test_commands_without_findings_refuse_the_format_before_they_work(run, arcade):
    before = sorted(path for path in arcade.rglob("*"))
    for command in sorted(set(reference.list_commands()) - WITH_FINDINGS):
        status, text, error = run(*command.split(), "-o", "sarif")
        assert status == 2, (command, error)
        (notification,) = validators.read_sarif(text)["invocations"][0]["toolExecutionNotifications"]
        assert notification["descriptor"]["id"] == "format-not-supported", command
        assert "is not possible. Use another format" in notification["message"]["text"], command
    assert sorted(path for path in arcade.rglob("*")) == before


@pytest.mark.parametrize("words", ["-o sarif users", "users -o sarif", "users"])
def test_format_before_the_name_or_in_the_environment_is_refused_before_the_command_works(
    run, monkeypatch, words
):
    monkeypatch.setenv("DBCTL_OUTPUT", "sarif")
    status, text, error = run(*words.split(), "create", "kim", "--email", "kim@example.org", "--generate")
    assert status == 2, error
    (notification,) = validators.read_sarif(text)["invocations"][0]["toolExecutionNotifications"]
    assert notification["descriptor"]["id"] == "format-not-supported"
    assert run("users", "show", "kim", "-o", "json")[0] == 5


def test_format_of_the_environment_is_also_refused(run, monkeypatch):
    monkeypatch.setenv("DBCTL_OUTPUT", "junit")
    assert run("users", "list")[0] == 2
    assert run("config", "validate")[0] == 0
    assert run("users", "list", "-o", "csv")[0] == 0


@pytest.mark.parametrize(
    ("content", "status", "code"), [(None, 10, "database-missing"), (b"no database " * 1000, 4, None)]
)
@pytest.mark.parametrize("output", FORMATS)
def test_database_that_cannot_be_opened_gives_a_valid_document(run, tmp_path, content, status, code, output):
    file = tmp_path / "app.db"
    if content:
        file.write_bytes(content)
    exit_code, text, error = run(
        "settings", "validate", "--profile", "flashpoint-web", "--url", f"user={file}", "-o", output
    )
    assert exit_code == status, error
    assert READERS[output](text) is not None
    assert error.startswith("dbctl: ")
    assert code is None or code in text


def test_dry_run_has_no_findings(run):
    run("backup", "create")
    assert run("backup", "drill", "--dry-run", "-o", "junit")[0] == 2


@pytest.mark.parametrize("output", FORMATS)
def test_columns_of_a_report_are_refused(run, output):
    assert run("config", "validate", "-o", output, "--columns", "code")[0] == 2


def test_lint_names_file_and_line_in_json_and_reports(run, arcade):
    words = ["migrate", "lint", "--migrations", str(arcade / "migrations")]
    findings = json.loads(run(*words, "-o", "json")[1])["data"]["findings"]
    (drop,) = [finding for finding in findings if finding["code"] == "drops-table"]
    assert (drop["file"], drop["line"]) == (str(arcade / "migrations/001_first.sql"), 2)
    issues = validators.read_gitlab(run(*words, "-o", "gitlab")[1])
    assert {"path": "migrations/001_first.sql", "lines": {"begin": 2}} in [
        issue["location"] for issue in issues
    ]
    assert "001_first.sql:2" in run(*words)[1]


def test_mistake_in_the_configuration_has_its_line(run, tmp_path):
    (tmp_path / ".git").mkdir()
    file = tmp_path / "dbctl.toml"
    file.write_text(CONFIGURATION.replace("max_age", "nosuch"))
    status, text, _ = run("config", "validate", "--config", str(file), "-o", "github")
    ((level, properties, _),) = validators.read_github(text)
    assert (status, level, properties["file"], properties["line"]) == (2, "error", "dbctl.toml", "4")


@pytest.mark.needs_extension("fleet")
@pytest.mark.parametrize("output", FORMATS)
def test_fleet_reports_the_findings_and_errors_of_its_instances(tmp_path, monkeypatch, capsys, output):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    folder = create_fleet(tmp_path)
    tenant_path(folder, NAMES[0]).write_bytes(b"damaged " * 1000)
    for words in (["status", "--check"], ["integrity", "check"]):
        status = main([*words, "--app", "shop", "-o", "json"])
        capsys.readouterr()
        assert main([*words, "--app", "shop", "-o", output]) == status
        text = capsys.readouterr().out
        assert list_failures(output, text) >= 1
        assert f"shop/{NAMES[0]}" in text


@pytest.mark.parametrize("word", ["users list", "apps list", "config show", "stats tables", "backup list"])
def test_template_prints_one_line_for_each_row(run, word):
    run("backup", "create")
    rows = run(*word.split(), "-o", "jsonl")[1].splitlines()
    status, text, _ = run(*word.split(), "--template", f"<{{{next(iter(json.loads(rows[0])))}}}>")
    assert status == 0
    assert len(text.splitlines()) == len(rows)
    assert all(line.startswith("<") and line.endswith(">") for line in text.splitlines())


def test_template_of_a_record_and_of_a_change(run):
    assert run("users", "show", "admin", "--template", "{login}={id}")[:2] == (0, "admin=1\n")
    assert run("users", "deactivate", "demo", "--dry-run", "--template", "{plan.title}")[0] == 0
    status, text, _ = run("users", "deactivate", "demo", "--template", "{changed} {users.0.login}")
    assert (status, text) == (0, "1 demo\n")


def test_invalid_template_changes_nothing(run, arcade):
    def read():
        with closing(sqlite3.connect(arcade / "user.db")) as connection:
            return connection.execute("select is_active from users where username = 'visitor'").fetchone()

    before = read()
    status, text, error = run("users", "deactivate", "visitor", "--template", "{login:nosuch}")
    assert (status, text, read()) == (2, "", before)
    assert "size" in error
    status, _, error = run("users", "deactivate", "visitor", "--template", "{nosuch}")
    assert (status, read()) == (2, before), error
    assert "users" in error


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--template", "{login}", "-o", "json"], 2),
        (["-o", "template"], 2),
        (["--template", "{login}", "-o", "template"], 0),
        (["-o", "template", "--template", "{login}"], 0),
        (["--template", ""], 0),
        (["--template", "", "-o", "template"], 2),
        (["--template", "{login}", "--columns", "login"], 2),
        (["--template", "{nosuch}"], 2),
    ],
)
def test_template_and_other_options(run, words, status):
    assert run("users", "list", *words)[0] == status


def test_template_replaces_the_format_of_the_environment(run, monkeypatch):
    monkeypatch.setenv("DBCTL_OUTPUT", "json")
    assert run("--template", "{login}", "users", "list", "--limit", "1")[1] == "admin\n"


def test_rows_of_queries_and_empty_lists_have_templates(run):
    assert (
        run("data", "query", "select 1 as a, x'ff' as b", "--template", "{a}|{b}")[1]
        == '1|{"$b64": "/w=="}\n'
    )
    assert run("users", "list", "--role", "nosuch", "--template", "{login}")[1] == ""


def test_changed_migration_is_reported_at_its_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "m").mkdir()
    (tmp_path / "m/001_a.sql").write_text("create table a (id integer);\n")
    words = ["--url", "main=app.db", "--migrations", "m"]
    assert main(["migrate", "up", *words]) == 0
    (tmp_path / "m/001_a.sql").write_text("create table a (id integer, b text);\n")
    capsys.readouterr()
    assert main(["migrate", "verify", *words, "-o", "github"]) == 4
    ((level, properties, _),) = validators.read_github(capsys.readouterr().out)
    assert (level, properties["file"], properties["line"]) == ("error", "m/001_a.sql", "1")
