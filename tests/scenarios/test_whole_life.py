"""Every command in one scenario on every engine: create, use, destroy and restore databases, and compare every row."""

from __future__ import annotations

import json
import shlex
from contextlib import contextmanager
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from dbctl.cli.main import main
from tests import servers
from tests.caching import postgresql_database
from tests.databases import File, Folder, MySQL, PostgreSQL
from tools import reference

SCHEMAS = json.loads(reference.SCHEMAS.read_text(encoding="utf-8"))
PASSWORD = "sample-admin"
#: Profile, engine of its first database, and variant of its migrations.
DEPLOYMENTS = [
    ("waqtor", "postgresql", ""),
    ("waqtor", "postgresql", "document"),
    ("promptvault", "sqlite", ""),
    ("promptvault", "postgresql", ""),
    ("promptvault", "mysql", ""),
    ("yaai", "sqlite", ""),
    ("chat-lancedb", "sqlite", ""),
]

#: Values of the placeholders by profile, and those that a variant replaces; ``key`` is the id of a row of ``table``.
PLACEHOLDERS = {
    "waqtor": {
        "sample": "--users 6 --messages 60",
        "boss": "admin@waqtor.example",
        "ana": "user@waqtor.example",
        "role": "viewer",
        "table": "campaign_recipients",
        "change": "error_message=late",
        "search": "messages",
        "db": "main",
        "migration": "1",
        "setting": "allowRegistration",
        "requested": {"allowRegistration": True},
        "report": "summary",
    },
    "document": {"table": "messages", "variant": "--variant document"},
    "promptvault": {
        "sample": "--users 6 --prompts 30",
        "boss": "admin@promptvault.example",
        "ana": "demo@promptvault.example",
        "role": "USER",
        "table": "Rating",
        "change": "value=3",
        "search": "prompts",
        "db": "main",
        "migration": "20250825092600",
        "setting": "allowRegistration",
        "requested": {"allowRegistration": True},
        "report": "tag-usage",
    },
    "yaai": {
        "sample": "--chats 6 --messages 60",
        "boss": "unused",
        "ana": "unused",
        "role": "any",
        "table": "tool_calls",
        "change": "output=late",
        "search": "messages",
        "report": "tools",
        "db": "chat",
        "migration": "1",
        "setting": "theme",
        "requested": {"theme": "light"},
    },
    "chat-lancedb": {
        "sample": "--users 6 --chats 8 --messages 300",
        "role": "any",
        "table": "attachments",
        "change": "name=late",
        "search": "messages",
        "report": "users",
        "db": "chat",
        "migration": "1",
        "setting": "theme",
        "requested": {"theme": "light"},
        "people": "id,email,name\nUSER-MIA,mia@example.org,Mia\n",
    },
}
#: Databases that ``dbctl demo`` creates below the folder of the test.
CREATED = {
    "yaai": {name: f"db/{name}.sqlite" for name in ("chat", "code", "imagegen", "app")},
    "chat-lancedb": {"chat": "data/chat.db", "vectors": "data/lancedb"},
}

SETUP = [
    "migrate up --profile {profile} {urls} {variant}",
    "demo {profile} . {fill_url} {sample}",
]
#: Commands in the order in which they run; the exit code is 0, with the exceptions below.
COMMANDS = [
    "init {profile} . --app second {urls}",
    "help options",
    "config show --defaults",
    "config explain backup",
    "config edit",
    "version",
    "support --to support.tar.gz",
    "config validate",
    "config schema",
    "apps list",
    "apps show",
    "apps check",
    "apps instances",
    "profiles list",
    "profiles draft --db {db}",
    "migrate status --check",
    "migrate plan",
    "migrate up",
    "migrate baseline",
    "migrate mark {migration} --applied --db {db}",
    "migrate repair --checksums --failed --db {db}",
    "migrate down --db {db} --dry-run",
    "migrate reset --db {db} --dry-run",
    "migrate new add-notes --db {db} --migrations own",
    "migrate verify",
    "migrate drift",
    "migrate lint",
    "migrate rehearse",
    "migrate lint --all --strict",
    "status --record",
    "stats history",
    "report --html report.html",
    "doctor",
    "schedule cron",
    "schedule systemd",
    "schedule kubernetes",
    "schedule compose",
    "schedule status",
    "metrics",
    "apps maintenance on",
    "runs list",
    "runs show 1",
    "audit list",
    "audit show 2",
    "audit verify",
    "audit export",
    "undo 2 --dry-run",
    "runs prune --keep 100 --yes",
    "notify test",
    "notify check",
    "notify summary",
    "users list",
    "users show {boss}",
    "users create new@example.org --name New --generate",
    "users ensure new@example.org --name Newer --generate",
    "users update new@example.org --name Newest",
    "users set-role new@example.org {role}",
    "users add-role new@example.org {role}",
    "users remove-role new@example.org {role}",
    "users set-password {ana} --password-file password",
    "users check-password {ana} --password-file password",
    "users export-data {ana} user.json",
    "users deactivate {ana}",
    "users activate {ana}",
    "users unlock {ana}",
    "users import people.csv",
    "users delete mia@example.org --yes",
    "users export",
    "roles list",
    "roles show {role}",
    "roles create editor",
    "roles update {role} --description Helps",
    "roles delete {role} --yes",
    "roles grant {role} x",
    "roles revoke {role} x",
    "roles matrix",
    "roles permissions",
    "roles can {ana} x",
    "settings list",
    "settings get {setting}",
    "settings set {setting} false",
    "settings reset {setting}",
    "settings update {setting} --public",
    "settings validate",
    "settings export",
    "settings diff requested.json",
    "settings apply requested.json",
    "sessions list",
    "sessions revoke {ana}",
    "sessions cleanup",
    "sessions rebuild-stats --yes",
    "search {search}",
    "search {search} --explain",
    "search all a",
    "search semantic --vector near.json",
    "search vectors store {key} near.json --yes",
    "search vectors make --dry-run",
    "search index status",
    "search index check",
    "search index drop",
    "search index build",
    "search index repair",
    "stats overview",
    "stats tables",
    "stats user {ana}",
    "stats activity",
    "stats locks",
    "stats connections",
    "stats slow",
    "stats indexes",
    "stats bloat",
    "stats reports",
    "stats run {report}",
    "schema show",
    "schema show {table}",
    "schema diagram",
    "data add {table} nosuch=1",
    "data rows {table}",
    "data show {table} {key}",
    "data set {table} {key} {change}",
    """data export --query "select * from \\"{table}\\" where id = '{key}'" one.csv""",
    "data delete {table} {key} --yes",
    "data import {table} one.csv",
    "data query 'select 1'",
    "transfer plan --to moved.db",
    "transfer run --to moved.db",
    "transfer verify --to moved.db",
    "transfer switch --to moved.db --yes",
    "maintain vacuum",
    "maintain analyze",
    "maintain optimize",
    "maintain reindex --table {table}",
    "maintain checkpoint",
    "maintain wal",
    "maintain cancel 1 --yes",
    "completions show bash",
    "completions install bash",
    "man show backup",
    "man install",
    "integrity check",
    "integrity cross-check",
    "integrity repair",
    "backup create",
    "backup list",
    "backup show latest",
    "backup verify --deep",
    "backup drill",
    "backup status --check",
    "backup copy latest --to nearby",
    "backup adopt missing.db",
    "schema diff backup:latest {db}",
    "data diff backup:latest {db}",
    "backup pin latest --reason audit",
    "backup unpin latest",
    "backup prune --keep-last 1 --yes",
    "backup delete 20000101_000000 --yes",
    "restore preview",
    "restore apply latest --yes",
    "restore undo --yes",
    "restore files latest --to restored-files",
    "restore recover --force --to recovered.db",
    "status --check",
]
FINAL_CHECKS = [
    "status --check",
    "apps check",
    "integrity check",
    "integrity cross-check",
    "migrate verify",
    "migrate drift",
    "migrate status --check",
    "users check-password {boss} --password-file password",
    "data show {table} {key}",
    "backup create",
    "backup verify --deep",
]

#: Prefixes of commands that a profile, engine or variant does not support: exit code 2.
UNSUPPORTED = {
    "flashpoint-web": (
        "search semantic",
        "search vectors",
    ),
    "waqtor": ("settings", "search index", "search semantic", "search vectors", "integrity repair"),
    "document": ("sessions revoke",),  # it has no sessions
    "promptvault": (
        *(
            "users activate",
            "users deactivate",
            "sessions",
            "search semantic",
            "search vectors",
            "integrity repair",
        ),
    ),
    "yaai": (
        *("users", "roles", "sessions list", "sessions revoke", "stats user"),
        *("search semantic", "search vectors", "integrity repair"),
    ),
    "chat-lancedb": (
        *("users create", "users set-role", "users set-password", "users check-password"),
        *("users deactivate", "users activate", "roles", "settings", "sessions"),
    ),
    "sqlite": ("stats connections", "stats slow", "maintain cancel"),
    "postgresql": ("restore recover",),
    "mysql": ("restore recover", "maintain vacuum", "maintain checkpoint"),
    "": (
        *("users unlock", "users add-role", "users remove-role"),
        *(
            f"roles {word}"
            for word in ["create", "update", "delete", "grant", "revoke", "matrix", "permissions", "can"]
        ),
        "settings update",
        "sessions rebuild-stats",
        "stats activity",
    ),
}
#: Other exit codes of supported commands.
OTHER_EXIT_CODES = {
    # no channel is configured
    "notify test": {2},
    "notify summary": {2},
    "apps maintenance on": {2},  # no program is configured
    "backup delete 20000101_000000 --yes": {5},
    "data add {table} nosuch=1": {2},
    "search vectors store {key} near.json --yes": {5},  # the key is not the key of a message
    "search vectors make --dry-run": {2},  # no embedder is configured
    "maintain wal": {0, 2},  # an app on a server may also have files
    "backup adopt missing.db": {5},
    "restore files latest --to restored-files": {0, 5},  # not every app has files
    "maintain cancel 1 --yes": {5},
    "stats slow": {0, 2},  # a server may not record slow statements
    "undo 2 --dry-run": {2, 6},  # the operation is a migration, or of another app
    "migrate down --db {db} --dry-run": {0, 6},  # most migrations have no down script
}


def expected_exit_codes(line: str, profile: str, engine: str, variant: str) -> set[int]:
    unsupported = (*UNSUPPORTED[profile], *UNSUPPORTED[engine], *UNSUPPORTED[variant], *UNSUPPORTED[""])
    return {2} if line.startswith(unsupported) else OTHER_EXIT_CODES.get(line, {0})


@contextmanager
def create_empty_database(engine: str):
    """Yield an empty database or the path of a file, and remove it with everything that restores created."""
    if engine == "sqlite":
        yield File(Path("main.db").absolute())
    elif engine == "postgresql":
        with postgresql_database() as url:
            yield PostgreSQL(url)
    else:
        with servers.mysql_database() as url:
            yield MySQL(url)


@pytest.fixture
def run(capsys):
    """Return a function that runs a command, asserts its exit code, and returns its output after validation."""

    def run(command_line, expected):
        capsys.readouterr()
        status = main([*shlex.split(command_line), "-o", "json"])
        output = json.loads(capsys.readouterr().out)
        assert status in expected, (command_line, output)
        schema = {**SCHEMAS["answers"][output["schema"]], "$defs": SCHEMAS["$defs"]}
        Draft202012Validator(schema).validate(output)
        return output

    return run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Create the working directory, with the files that the commands use."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    (tmp_path / "own").mkdir()
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "people.csv").write_text("email,name,password\nmia@example.org,Mia,long enough\n")
    (tmp_path / "new").mkdir()
    (tmp_path / "near.json").write_text(json.dumps([1.0, *[0.0] * 767]))
    return tmp_path


def format_url_options(profile, database):
    """Return the placeholders for the URLs: of the databases that ``migrate up`` creates, and of the one that ``demo`` fills."""
    if profile not in CREATED:
        return {"urls": f"--url main={database.url}", "fill_url": f"--url main={database.url}"}
    files = [name for name, path in CREATED[profile].items() if Path(path).suffix]
    return {"urls": " ".join(f"--url {name}=new/{name}.sqlite" for name in files), "fill_url": ""}


def list_further_databases(profile, folder):
    """Return the further databases that ``demo`` created, with a row in each."""
    if profile != "waqtor":
        return []
    legacy = File(folder / "runtime/server/db/waqtor.db")
    legacy.run("insert into message_logs (phone, message) values ('491700001', 'Hi')")
    return [legacy]


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "engine", "variant"), DEPLOYMENTS)
def test_restore_returns_every_row_after_every_command_and_loss_of_all_databases(
    profile, engine, variant, folder, run
):
    with create_empty_database(engine) as target:
        words = {"variant": "", **PLACEHOLDERS[profile], **PLACEHOLDERS.get(variant, {}), "profile": profile}
        words |= format_url_options(profile, target)
        (folder / "requested.json").write_text(json.dumps(words["requested"]))
        databases = [
            (File if Path(path).suffix else Folder)(folder / path)
            for path in CREATED.get(profile, {}).values()
        ]
        if "people" in words:
            (folder / "people.csv").write_text(words["people"])
        for line in SETUP:
            run(line.format(**words), {0})
        if "boss" not in words:  # IDs of the sample
            words["boss"], words["ana"], *_ = (
                key for (key,) in databases[0].rows("select id from users order by id")
            )
        databases = databases or [target, *list_further_databases(profile, folder)]
        ((words["key"],), *_) = sorted(databases[0].rows(f'select id from "{words["table"]}"'))
        for line in COMMANDS:
            option = "" if line.startswith("init") else f"--app {profile} "
            run(option + line.format(**words), expected_exit_codes(line, profile, engine, variant))

        before = [database.content() for database in databases]
        created = run(f"backup create --app {profile}", {0})["data"]
        assert [member["rows"] for member in created["members"] if member["database"]] == [
            {name: len(rows) for name, rows in tables.items() if not name.startswith("sqlite_")}
            for tables in before
        ]
        for database in databases:
            database.destroy()
        run(f"data rows {words['table']} --app {profile}", {10})
        restored = run(f"restore apply latest --yes --app {profile}", {0})["data"]
        assert (restored["backup"], restored["safety_backup"]) == (created["id"], None)
        assert [database.content() for database in databases] == before
        for line in FINAL_CHECKS:
            run(
                f"--app {profile} " + line.format(**words),
                expected_exit_codes(line, profile, engine, variant),
            )
        assert [database.content() for database in databases] == before


def test_scenario_runs_every_command():
    commands = set(reference.list_commands())
    lines = [f"{line} " for line in (*SETUP, *COMMANDS)]
    missing = [
        command for command in sorted(commands) if not any(line.startswith(f"{command} ") for line in lines)
    ]
    assert missing == [], "add a line with the command to COMMANDS of this module"
