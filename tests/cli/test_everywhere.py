"""Every command on an app with a custom profile, as JSON and as table; each result must match its schema."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from dbctl.cli.main import main
from tests.cli import closings, larders
from tools import reference

SCHEMAS = json.loads(reference.SCHEMAS.read_text(encoding="utf-8"))

UNABLE = 2
#: Every command with its exit code on SQLite: 0, or 2 if the app lacks the feature.
LINES: dict[str, int] = {
    "help options": 0,
    "config show --defaults": 0,
    "config explain backup": 0,
    "config edit": 0,
    "version": 0,
    "support --to support.tar.gz": 0,
    "config validate": 0,
    "config schema": 0,
    "apps list": 0,
    "apps show": 0,
    "apps check": 0,
    "apps instances": 0,
    "profiles list": 0,
    "profiles draft": 0,
    "profiles draft --to drafted.toml": 0,
    "users list": 0,
    "users show pip": 0,
    "users create zoe --email zoe@example.org --generate": 0,
    "users create zoe --email zoe@example.org --generate --dry-run": 0,
    "users ensure pip --generate": 0,
    "users update pip --email pip@example.net": 0,
    "users set-password pip --generate": 0,
    "users set-role ana guest": 0,
    "users add-role ana guest": 2,
    "users remove-role ana guest": 2,
    "users activate pip": 0,
    "users deactivate ana": 0,
    "users list --locked": 2,
    "users unlock pip": 2,
    "users delete ana --yes": 0,
    "users delete ana --dry-run": 0,
    "users import people.csv": 0,
    "users export": 0,
    "users export-data pip pip.json": 0,
    "roles list": 0,
    "roles show guest": 0,
    "roles create editor": 2,
    "roles update guest --description Helps": 2,
    "roles delete guest --yes": 2,
    "roles grant guest x": 2,
    "roles revoke guest x": 2,
    "roles matrix": 2,
    "roles permissions": 2,
    "roles can pip x": 2,
    "settings list": 0,
    "settings get kitchen.title": 0,
    "settings set kitchen.title Shelf": 0,
    "settings reset kitchen.title": 0,
    "settings update kitchen.title --public": 0,
    "settings validate": 0,
    "settings export": 0,
    "settings diff settings.json": 0,
    "settings apply settings.json": 0,
    "settings list --user pip": 2,
    "migrate status": 2,
    "migrate plan": 2,
    "migrate up": 2,
    "migrate down --yes": 2,
    "migrate reset --yes": 2,
    "migrate baseline": 2,
    "migrate mark 1 --applied": 2,
    "migrate repair --failed": 2,
    "migrate new add-notes": 2,
    "migrate verify": 2,
    "migrate drift": 2,
    "migrate lint": 2,
    "migrate rehearse": 2,
    "status": 0,
    "status --check": 0,
    "status --record": 0,
    "stats history": 0,
    "report": 0,
    "report --html report.html": 0,
    "doctor": 0,
    "schedule cron": 0,
    "schedule systemd": 0,
    "schedule kubernetes": 0,
    "schedule compose": 0,
    "schedule status": 0,
    "metrics": 0,
    "runs list": 0,
    "runs show 1": 0,
    "runs prune --keep 1 --yes": 0,
    "audit list": 0,
    "audit show 2": 0,
    "audit verify": 0,
    "audit export": 0,
    "undo 2 --dry-run": 0,
    "undo 2 --yes": 0,
    "notify test": 2,
    "notify check": 0,
    "notify summary": 2,
    "backup create": 0,
    "backup create --dry-run": 0,
    "backup create --compress none": 0,
    "backup create --table members": 2,
    "backup list": 0,
    "backup show latest": 0,
    "backup verify --deep": 0,
    "backup adopt elsewhere": 0,
    "backup adopt elsewhere --dry-run": 0,
    "backup verify ./elsewhere": 0,
    "restore preview --file elsewhere": 0,
    "restore apply --file elsewhere --yes": 0,
    "restore files --file labels.tar --to out": 0,
    "backup copy --to nearby": 0,
    "backup verify --against-live": 0,
    "backup drill --dry-run": 0,
    "backup drill": 0,
    "backup status --check": 0,
    "backup pin latest --reason audit": 0,
    "backup unpin latest": 0,
    "backup prune --keep-last 1 --yes": 0,
    "backup delete 20000101_000000 --yes": 5,
    "restore preview": 0,
    "restore apply latest --yes": 0,
    "restore apply latest --dry-run": 0,
    "restore preview --before 0s --deep": 0,
    "restore apply latest --to copy.db": 0,
    "restore apply latest --table tallies --into tallies_copy": 0,
    "restore apply latest --table tallies --merge replace --yes": 0,
    "restore undo --yes": 0,
    "restore recover": 0,
    "restore recover --force --to whole.db": 0,
    "integrity check": 0,
    "integrity cross-check": 0,
    "integrity repair": 2,
    "stats overview": 0,
    "stats tables": 0,
    "stats user pip": 0,
    "stats activity": 0,
    "stats locks": 0,
    "stats locks --waiting": 2,
    "stats connections": 2,
    "stats slow": 2,
    "stats indexes": 0,
    "stats bloat": 0,
    "maintain vacuum": 0,
    "maintain vacuum --dry-run": 0,
    "maintain analyze": 0,
    "maintain optimize": 0,
    "maintain reindex --table order": 0,
    "maintain checkpoint": 0,
    "maintain wal": 0,
    "maintain wal --off": 0,
    "maintain cancel 1 --yes": 2,
    "stats reports": 0,
    "stats run recipes-per-cuisine": 0,
    "sessions list": 2,
    "sessions revoke pip": 0,
    "sessions rebuild-stats --yes": 0,
    "sessions rebuild-stats --dry-run": 0,
    "sessions cleanup --trust-clock": 0,
    "sessions cleanup --trust-clock --dry-run": 0,
    "search recipes bread": 0,
    "search recipes bread --explain": 0,
    "search all bread": 0,
    "search semantic --similar-to x": 2,
    "data rows members": 0,
    "data show members a1b7c0de-0000-4000-8000-000000000002": 0,
    "data set members a1b7c0de-0000-4000-8000-000000000002 kind=guest": 0,
    "data set order index=3 --filter index>0 --yes": 0,
    "schema show": 0,
    "schema show members": 0,
    "schema diagram": 0,
    "schema diff backup:latest larder": 0,
    "data diff backup:latest larder": 0,
    "data add recipe_labels recipe_uuid=b2c8d1ef-0000-4000-8000-000000000003 label=rice": 0,
    "data show members a1b7c0de-0000-4000-8000-000000000002 --columns handle --to handle.txt": 0,
    "data delete members a1b7c0de-0000-4000-8000-000000000002 --yes": 0,
    "data delete members a1b7c0de-0000-4000-8000-000000000002 --dry-run": 0,
    "data query select(1)": 0,
    "data export recipe_labels more.jsonl": 0,
    "data import recipe_labels labels.csv": 0,
    "transfer plan --to moved.db": 0,
    "transfer run --to moved.db": 0,
    "transfer verify --to moved.db": 10,  # nothing was copied
    "transfer switch --to moved.db --yes": 5,
    "search index status": 0,
    "search index check": 0,
    "search index build": 0,
    "search index build --dry-run": 0,
    "search index repair": 0,
    "search index drop recipes": 0,
    "search vectors store x labels.csv": 2,
    "search vectors make": 2,
    "completions show bash": 0,
    "completions install bash": 0,
    "man show backup": 0,
    "man install": 0,
    "init larder.toml . --app second {where}": 0,
    "demo larder.toml new": 2,
}

#: Exit codes on servers that differ from those on SQLite.
SERVER_STATUSES: dict[tuple[str, str], set[int]] = {
    ("backup create --table members", "postgresql"): {0},
    ("backup create --table members", "mysql"): {0},
    ("backup create --compress none", "postgresql"): {2},
    ("stats locks --waiting", "postgresql"): {0},
    ("stats locks --waiting", "mysql"): {0},
    ("stats connections", "postgresql"): {0},
    ("stats connections", "mysql"): {0},
    ("stats slow", "postgresql"): {0, 2},
    ("stats slow", "mysql"): {0, 2},
    ("restore apply latest --to copy.db", "postgresql"): {2},
    ("restore apply latest --to copy.db", "mysql"): {2},
    ("restore recover", "postgresql"): {2},
    ("restore recover", "mysql"): {2},
    ("restore recover --force --to whole.db", "postgresql"): {2},
    ("restore recover --force --to whole.db", "mysql"): {2},
    ("maintain vacuum", "mysql"): {2},
    ("maintain vacuum --dry-run", "mysql"): {2},
    ("maintain checkpoint", "mysql"): {2},
    ("maintain wal", "postgresql"): {2},
    ("maintain wal", "mysql"): {2},
    ("maintain wal --off", "postgresql"): {2},
    ("maintain wal --off", "mysql"): {2},
    ("maintain cancel 1 --yes", "postgresql"): {5},
    ("maintain cancel 1 --yes", "mysql"): {5},
}


def expected_statuses(line, engine):
    return SERVER_STATUSES.get((line, engine), {LINES[line]})


@pytest.fixture(scope="module")
def deployments(request, tmp_path_factory):
    deployments = larders.create_deployments(request.param, tmp_path_factory.mktemp("larder"))
    yield deployments
    deployments.close()


@pytest.fixture
def words(deployments, line, tmp_path, monkeypatch, capsys):
    """Make a deployment the working directory; return the arguments of the line."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDITOR", "true")
    # Not below the files that a dry run must not change: readers of a journal register in its memory.
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path.with_name(f"{tmp_path.name}-state")))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    is_unable = expected_statuses(line, deployments.engine) == {UNABLE}
    with deployments.deploy(tmp_path / "larder", line, is_unable=is_unable) as options:
        if preceding := larders.PRECEDING_COMMANDS.get(line.split()[0]):
            assert main(preceding.split()) == 0
        capsys.readouterr()
        yield line.format(where=options).split()


@pytest.mark.parametrize("deployments", ["sqlite", "postgresql", "mysql"], indirect=True)
@pytest.mark.parametrize("line", LINES)
def test_every_command_runs_on_app_with_custom_profile(line, deployments, words, capsys):
    status = main([*words, "-o", "json"])
    output = capsys.readouterr()
    assert larders.SECRET not in output.out + output.err
    answer = json.loads(output.out)
    assert status in expected_statuses(line, deployments.engine), answer
    if status == UNABLE:
        assert answer["error"]["code"] in {
            "feature-missing",
            "not-supported",
            "sessions-unlisted",
            "notify-not-configured",
        }
    schema = {**SCHEMAS["answers"][answer["schema"]], "$defs": SCHEMAS["$defs"]}
    Draft202012Validator(schema).validate(answer)
    closing_lines = closings.read_closing_lines(output.err)
    if not answer["error"] and closings.has_closing_line(line):
        assert len(closing_lines) == 1, output.err
    for text in closing_lines:
        assert not closings.find_wrong_figures(text, answer["data"]), (text, answer["data"])


@pytest.mark.parametrize("deployments", ["sqlite"], indirect=True)
@pytest.mark.parametrize("line", LINES)
def test_every_command_writes_table_and_at_most_one_closing_line(line, words, capsys):
    status = main(words)
    output = capsys.readouterr()
    assert status == LINES[line], output.err
    assert "\x1b" not in output.out
    closing_lines = closings.read_closing_lines(output.err)
    if closings.has_closing_line(line) and not status:
        assert len(closing_lines) == 1, output.err
    assert len(closing_lines) <= 1, output.err


def accepts_dry_run(line):
    return any(
        "--dry-run" in text and f"{line} ".startswith(f"{command} ")
        for command, text in reference.command_helps()
    )


def read_files(folder):
    """Return the content of every file except locks, which readers write: lock files, and shared memory of SQLite."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".dbctl-lock" and not path.name.endswith("-shm")
    }


@pytest.mark.parametrize("deployments", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "line",
    [line for line, status in LINES.items() if not status and "--dry-run" not in line and accepts_dry_run(line)],
)  # fmt: skip
def test_quiet_dry_run_changes_no_file(words, tmp_path, capsys):
    before = read_files(tmp_path)
    assert main([*words, "--dry-run", "--quiet"]) == 0
    assert read_files(tmp_path) == before
    assert not capsys.readouterr().err


def test_every_command_is_tested():
    words = set(reference.list_commands())
    tested = {command for command in words if any(f"{line} ".startswith(f"{command} ") for line in LINES)}
    # The first requires programs, and is tested in test_hooks; the other reads standard input.
    untested = {"apps maintenance", "users check-password"}
    assert words - tested == untested, "add a line with the command to LINES of this module"
