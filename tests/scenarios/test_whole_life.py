"""Every command in one scenario on every engine: create, use, destroy and restore databases, and compare every row."""

from __future__ import annotations

import json
import shlex
from contextlib import contextmanager
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from dbctl.cli.main import main
from tests import examples, servers
from tests.databases import File, Folder, MySQL, PostgreSQL
from tools import reference

SCHEMAS = json.loads(reference.SCHEMAS.read_text(encoding="utf-8"))
PASSWORD = "sample-admin"
#: Profile, engine of its first database, and variant of its migrations.
#: Each sample and variant once, and each engine with one of them: the profiles of ``tests/profiles`` run on all their engines. Waqtor
#: without a variant is that of ``tests/extensions/reach/test_whole_life.py``.
DEPLOYMENTS = [
    ("waqtor", "postgresql", "document"),
    ("promptvault", "mysql", ""),
    ("yaai", "sqlite", ""),
    pytest.param("chat-lancedb", "sqlite", "", marks=pytest.mark.needs_extension("lancedb")),
]

COMMON_VALUES = {"variant": "", "operation": "2", "run": "1", "value": "false"}
#: Values of the placeholders by profile, and those that a variant replaces; ``row`` is the id of a row of ``table``.
PLACEHOLDERS = {
    "waqtor": {
        "sample": "--users 6 --messages 60",
        "boss": "admin@waqtor.example",
        "login": "user@waqtor.example",
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
        "login": "demo@promptvault.example",
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
        "login": "unused",
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

SETUP = ["migrate up --profile {profile} {urls} {variant}", "demo {profile} . {fill_url} {sample}"]
EXAMPLES = examples.read_examples("samples")
FINAL_CHECKS = [
    "status --check",
    "apps check",
    "integrity check",
    "integrity cross-check",
    "migrate verify",
    "migrate drift",
    "migrate status --check",
    "users check-password {boss} --password-file password",
    "data show {table} {row}",
    "backup create",
    "backup verify --deep",
]

#: Prefixes of commands that a profile, engine or variant does not support: exit code 2.
UNSUPPORTED = {
    "flashpoint-web": ("search semantic", "search vectors"),
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
        *("users unlock", "users reset-2fa", "users add-role", "users remove-role"),
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
    "notify test --app {app}": {2},
    "notify summary": {2},
    "apps maintenance on": {2},  # no program is configured
    "search vectors store {row} near.json --yes": {5},  # the key is not the key of a message
    "search vectors make --dry-run": {2},  # no embedder is configured
    "maintain wal": {0, 2},  # an app on a server may also have files
    "restore files latest --to restored": {0, 5},  # not every app has files
    "maintain cancel 1 --yes": {5},
    "stats slow --limit 20": {0, 2},  # a server may not record slow statements
    "undo {operation} --dry-run": {2, 6},  # the operation is a migration, or of another app
    "migrate down --db {db} --dry-run": {0, 6},  # most migrations have no down script
}


def expected_exit_codes(line: str, profile: str, engine: str, variant: str) -> set[int]:
    unsupported = (*UNSUPPORTED[profile], *UNSUPPORTED[engine], *UNSUPPORTED[variant], *UNSUPPORTED[""])
    return (
        {2}
        if line.startswith(unsupported)
        else OTHER_EXIT_CODES.get(line, {EXAMPLES[line].status if line in EXAMPLES else 0})
    )


@contextmanager
def create_empty_database(engine: str):
    """Yield an empty database or the path of a file, and remove it with everything that restores created."""
    if engine == "sqlite":
        yield File(Path("main.db").absolute())
    elif engine == "postgresql":
        with servers.postgresql_database(encoding="UTF8") as url:
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
        assert status in expected, (command_line, json.dumps(output)[:3000])
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
    (tmp_path / "users.csv").write_text("email,name,password\nmia@example.org,Mia,long enough\n")
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


def live(target, profile, engine, variant, folder, run):
    """Run every command on an app whose first database is ``target``, destroy its databases, restore them, and compare every row."""
    words = {
        **COMMON_VALUES,
        **PLACEHOLDERS[profile],
        **PLACEHOLDERS.get(variant, {}),
        "profile": profile,
        "app": profile,
    }
    words |= format_url_options(profile, target)
    (folder / "requested.json").write_text(json.dumps(words["requested"]))
    databases = [
        (File if Path(path).suffix else Folder)(folder / path) for path in CREATED.get(profile, {}).values()
    ]
    if "people" in words:
        (folder / "users.csv").write_text(words["people"])
    for line in SETUP:
        run(line.format(**words), {0})
    if "boss" not in words:  # IDs of the sample
        words["boss"], words["login"], *_ = (
            key for (key,) in databases[0].rows("select id from users order by id")
        )
    databases = databases or [target, *list_further_databases(profile, folder)]
    ((words["row"],), *_) = sorted(databases[0].rows(f'select id from "{words["table"]}"'))
    for line in examples.order_lines(EXAMPLES):
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
        run(f"--app {profile} " + line.format(**words), expected_exit_codes(line, profile, engine, variant))
    assert [database.content() for database in databases] == before


@pytest.mark.needs_extension("demo")
@pytest.mark.slow
@pytest.mark.parametrize(("profile", "engine", "variant"), DEPLOYMENTS)
def test_restore_returns_every_row_after_every_command_and_loss_of_all_databases(
    profile, engine, variant, folder, run
):
    with create_empty_database(engine) as target:
        live(target, profile, engine, variant, folder, run)


def test_scenario_runs_every_command():
    # SETUP has the first; the second reads standard input until it ends, and the last have tests of their own.
    assert (
        examples.list_untested(EXAMPLES)
        == {"demo", "mcp", "backup log", "backup recover", "profiles learn", "profiles prove"}
        & reference.read_specs().keys()
    ), "add an example of the command on samples"
