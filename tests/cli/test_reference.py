"""Generated files are current, and results match their schemas."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from typer.main import get_group

from dbctl import demo
from dbctl.cli._support.options import add_common_options
from dbctl.cli.main import app, main
from dbctl.config import bundled_folder
from dbctl.errors import DbctlError, load_registry
from dbctl.profiles import generate
from dbctl.services.setup.init import InitConfig
from tests.cli import closings
from tests.engines import lance
from tests.fault_proxy import FaultProxy
from tests.receivers import receive_http
from tests.shapes import chat_lancedb, flashpoint_web
from tools import reference, schema_pages

SCHEMAS = json.loads(reference.SCHEMAS.read_text(encoding="utf-8"))

#: Every command with a result, for both variants of the schema; {key} is a setting of the variant.
LINES = [
    "help exit-codes",
    "config show --defaults",
    "config explain backup.keep",
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
    "profiles draft --db user",
    "status",
    "status --app fp",
    "doctor",
    "doctor --all-apps",
    "users list",
    "users show admin",
    "users show admin eve",
    "users create zoe --email zoe@example.org --generate",
    "users create zoe --email zoe@example.org --generate --with-settings",
    "users create zoe --email zoe@example.org --generate --dry-run",
    "users ensure eve --role user --generate",
    "users update eve --email eve@example.net",
    "users set-password eve --generate",
    "users set-role eve guest",
    "users activate eve",
    "users deactivate eve",
    "users unlock eve",
    "users delete eve --yes",
    "users delete eve --dry-run",
    "users import people.csv",
    "users export",
    "roles list",
    "roles show user",
    "roles create editor --permission games.*",
    "roles update helper --description Helps",
    "roles grant helper games.read",
    "roles revoke helper games.play",
    "roles delete helper --yes",
    "roles matrix",
    "roles permissions",
    "roles can admin users.read --explain",
    "roles can --id 1 users.read",
    "roles show --id 2",
    "settings list",
    "settings get {key}",
    "settings set {key} Arcade",
    "settings reset {key}",
    "settings update {key} --description Name",
    "settings validate",
    "settings export",
    "settings diff settings.json",
    "settings apply settings.json",
    "settings set --user admin theme_mode light",
    "settings list --user admin",
    "settings list --id 1",
    "migrate status",
    "migrate plan --migrations {migrations}",
    "migrate up --migrations {migrations}",
    "migrate up --migrations {migrations} --dry-run",
    "migrate up --steps 1 --no-backup --migrations {migrations}",
    "migrate down --profile plain --url main=steps.db --migrations steps --repository backups --yes",
    "migrate down --profile plain --url main=steps.db --migrations steps --no-backup --dry-run",
    "migrate verify --migrations {migrations}",
    "migrate drift --migrations {migrations}",
    "migrate lint --migrations {migrations}",
    "migrate lint --migrations {migrations} --all",
    "migrate rehearse --migrations {migrations}",
    "migrate reset --dry-run --migrations {migrations}",
    "migrate baseline --migrations {migrations}",
    "migrate baseline --migrations {migrations} --dry-run",
    "migrate mark 2 --applied --migrations {migrations}",
    "migrate mark 2 --pending --migrations {migrations} --dry-run",
    "migrate repair --checksums --failed --migrations {migrations}",
    "migrate repair --missing --migrations {migrations} --dry-run",
    "migrate repair 2 --statement undone --migrations {migrations} --dry-run",
    "migrate new add-notes --migrations {migrations}",
    "integrity check",
    "integrity cross-check",
    "integrity check --quick --table users",
    "stats overview",
    "stats tables",
    "stats user eve",
    "stats activity --action users.create",
    "stats tables --exact --sort -rows",
    "stats indexes",
    "stats indexes --only redundant",
    "stats bloat",
    "stats locks",
    "stats reports",
    "stats run games-per-platform",
    "stats run most-played --explain",
    "maintain vacuum",
    "maintain vacuum --dry-run",
    "maintain analyze --table users --table roles",
    "maintain optimize",
    "maintain reindex --table users",
    "maintain checkpoint",
    "sessions list",
    "sessions list --kind plays",
    "sessions list --state abandoned --user admin --sort -started_at",
    "sessions revoke admin --dry-run",
    "sessions revoke admin",
    "sessions cleanup",
    "sessions cleanup --dry-run",
    "sessions cleanup --rule login-attempts --older-than 36h --check",
    "backup create",
    "backup create --dry-run",
    "backup create --compress zstd",
    "backup create --db flashpoint",
    "backup list",
    "backup show latest",
    "backup verify --deep",
    "backup adopt copy_20260105_030000.db",
    "backup adopt copy_20260105_030000.db --dry-run",
    "backup verify ./copy_20260105_030000.db",
    "restore preview --file copy_20260105_030000.db",
    "restore apply --file copy_20260105_030000.db --yes",
    "restore files --file some.tar --to unpacked",
    "backup copy --to nearby --dry-run",
    "backup copy latest --to nearby",
    "backup verify --against-live",
    "backup drill --dry-run",
    "backup drill",
    "backup status --check",
    "backup pin {backup} --reason audit",
    "backup pin {backup} --reason audit --dry-run",
    "backup unpin {backup} --dry-run",
    "backup unpin {backup}",
    "backup prune --keep-last 1 --yes",
    "backup prune --dry-run",
    "backup delete {backup} --yes",
    "backup delete {backup} --dry-run",
    "restore preview",
    "restore apply latest --yes",
    "restore apply latest --dry-run",
    "restore apply latest --to {key}.copy.db",
    "restore apply --before 0s --to {key}.copy.db --replace --dry-run",
    "restore apply latest --table users --into users_then --dry-run",
    "restore apply latest --table roles --merge replace --yes",
    "restore apply latest --table roles --merge missing --dry-run",
    "restore undo --yes",
    "restore recover",
    "restore recover --force --to {key}.db",
    "restore recover --dry-run",
    "schedule cron",
    "status --record",
    "stats history",
    "stats history users --since 7d",
    "report",
    "report --since 7d --html report.html",
    "runs list --failed --since 1d --command backup",
    "schedule systemd",
    "schedule systemd --install --directory units",
    "schedule systemd --install --directory units --dry-run",
    "schedule kubernetes",
    "schedule compose",
    "schedule status",
    "schedule status --directory units",
    "metrics",
    "metrics --write dbctl.prom",
    "runs list --limit 1",
    "runs show 1",
    "runs prune --keep 1 --dry-run",
    "audit list --since 1d --command users",
    "audit show 2",
    "audit verify",
    "audit export",
    "undo 6 --dry-run",
    "undo 6 --yes",
    "runs prune --older-than 90d --yes",
    "notify test ping",
    "notify check",
    "notify summary",
    "schedule cron --all-apps --user root",
    "sessions rebuild-stats --yes",
    "sessions rebuild-stats --user admin --dry-run",
    "search games puzzle",
    "search games --count",
    "search games puzzle --explain",
    "search games --id {game}",
    "search all admin",
    "users list --locked",
    "users unlock --address 10.0.0.7",
    "maintain wal",
    "maintain wal --off --dry-run",
    "users export-data eve eve.json",
    "data rows users",
    "data rows users --filter is_active=yes --columns id,username,password_hash --sort -id",
    "data rows users --after 1 --limit 1",
    "data show users 1",
    "data set users 1 email=root@example.net",
    "data set users 1 email=root@example.net --dry-run",
    "schema show",
    "schema show users",
    "schema diagram users",
    "schema diff user flashpoint",
    "data diff backup:latest user",
    "data show users 1 --columns username --to name.txt",
    "data add login_attempts username=eve ip_address=10.0.0.7",
    "data add login_attempts username=eve ip_address=10.0.0.7 --dry-run",
    "data set login_attempts username=ann --filter id>0 --yes",
    "data set login_attempts username=ann --filter id>0 --dry-run",
    "data delete users 2 --yes",
    "data delete users 2 --dry-run",
    "data query select(1)",
    "data export roles roles.csv",
    "data import login_attempts attempts.csv",
    "data import login_attempts attempts.csv --dry-run",
    "transfer plan --to new.db",
    "transfer run --to new.db",
    "transfer run --to new.db --dry-run",
    "transfer verify --to copied.db",
    "transfer switch --to copied.db --dry-run",
    "completions show bash",
    "completions install bash",
    "man show backup",
    "man install",
    "init flashpoint-web . --app second",
    "demo flashpoint-web new --games 5 --users 4 --plays 5",
]
#: Commands that run first in each deployment.
BEFORE = [
    "migrate up --profile plain --url main=steps.db --migrations steps",
    "users create eve --email eve@example.org --generate",
    "roles create helper --permission games.play",
    "backup create",
    "restore apply latest --yes",
    "backup create",
    "backup drill",
    "transfer run --to copied.db",
]
KEYS = {"document": "app.siteName", "deployed": "app.site_name"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[FaultProxy]:
    """Run a server that receives notifications."""
    with receive_http() as receiver:
        yield receiver


@pytest.fixture(scope="module", params=["document", "deployed"])
def deployment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, receiver: FaultProxy
) -> Path:
    """Create a deployment of each variant, with its configuration and input files."""
    folder = tmp_path_factory.mktemp("deployment") / request.param
    if request.param == "document":
        demo.build(folder, counts={"games": 40, "users": 6, "plays": 20})
    else:
        flashpoint_web.deployed_user_db(folder / "backend" / "user.db")
        flashpoint_web.launcher_extras_db(folder / "Data" / "flashpoint.sqlite")
        flashpoint_web.add_user(folder / "backend" / "user.db", "admin", 1)
    (folder / "people.csv").write_text(
        "username,email,password\nmia,mia@example.org,long enough\n", encoding="utf-8"
    )
    (folder / "attempts.csv").write_text("username,ip_address\neve,10.0.0.7\n", encoding="utf-8")
    (folder / "settings.json").write_text(json.dumps({KEYS[request.param]: "Arcade"}), encoding="utf-8")
    (folder / "steps").mkdir()
    (folder / "steps" / "001_notes.sql").write_text(
        "-- migrate:up\ncreate table notes (text text);\n-- migrate:down\ndrop table notes;\n",
        encoding="utf-8",
    )
    shutil.copy(folder / "backend" / "user.db", folder / "copy_20260105_030000.db")
    with tarfile.open(folder / "some.tar", "w") as archive:
        archive.add(folder / "settings.json", "settings.json")
    InitConfig(
        "flashpoint-web", folder, app="fp", file=folder / "dbctl.toml", urls=(), protected=False
    ).apply()
    with (folder / "dbctl.toml").open("a", encoding="utf-8") as file:
        file.write(
            f'[notify]\nping = "{receiver.url}/{{command}}"\n[notify.webhook]\nurl = "{receiver.url}"\n'
        )
    shutil.copytree(
        Path(bundled_folder("migrations")) / "flashpoint-web" / "user" / "document", folder / "migrations"
    )
    pending = "005_notes.sql"
    if request.param == "deployed":  # the folder of this ledger
        shutil.rmtree(folder / "migrations")
        (folder / "migrations").mkdir()
        shutil.copy(flashpoint_web.DEPLOYED, folder / "migrations")
        pending = "002_notes.sql"
    (folder / "migrations" / pending).write_text("create table notes (text text);\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DBCTL_STATE", str(folder / "state"))
        for line in BEFORE:
            assert main(line.split()) == 0
    return folder


@pytest.fixture
def app_folder(deployment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the deployment, and make the copy the working directory."""
    folder = tmp_path / deployment.name
    shutil.copytree(deployment, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.setenv("DBCTL_STATE", str(folder / "state"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    return folder


def split_line(line: str, folder: Path) -> list[str]:
    """Return the arguments of a line for the deployment in ``folder``."""
    game = "none"
    if "{game}" in line:
        path = folder / "Data" / "flashpoint.sqlite"
        with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
            game = connection.execute("select id from game").fetchone()[0]
    backup = max(path.parent.name for path in folder.glob("backups/*/*/manifest.json"))
    return line.format(key=KEYS[folder.name], game=game, migrations="migrations", backup=backup).split()


def read_launcher_state(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return the digest, size, times, inode, mode and owner of every file of the launcher, and of their folder."""
    state: dict[str, tuple[object, ...]] = {}
    for path in (folder / "Data", *(folder / "Data").iterdir()):
        file_stat = path.stat()
        digest = "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        state[path.name] = (
            digest,
            file_stat.st_size,
            file_stat.st_mtime_ns,
            file_stat.st_ino,
            file_stat.st_mode,
            file_stat.st_uid,
        )
    return state


@pytest.mark.parametrize("line", LINES)
def test_result_matches_schema_and_no_command_changes_launcher_database(
    line: str, app_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, launcher = split_line(line, app_folder), read_launcher_state(app_folder)
    capsys.readouterr()
    status = main([*words, "-o", "json"])
    response = json.loads(capsys.readouterr().out)
    assert read_launcher_state(app_folder) == launcher
    assert status == 0, response
    schema = {**SCHEMAS["answers"][response["schema"]], "$defs": SCHEMAS["$defs"]}
    Draft202012Validator(schema).validate(response)


@pytest.mark.parametrize("line", LINES)
def test_result_is_written_as_table(line: str, app_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = split_line(line, app_folder)
    capsys.readouterr()
    status = main(words)
    output = capsys.readouterr()
    assert status == 0
    assert len(closings.read_closing_lines(output.err)) <= 1, output.err
    assert "\x1b" not in output.out


@pytest.mark.parametrize(("words", "text"), reference.list_commands().items())
def test_help_has_two_valid_examples_of_the_command(words: str, text: str) -> None:
    examples = re.findall(r"^    (dbctl .*)$", text.partition("\n  Examples:\n")[2], re.MULTILINE)
    assert len(set(examples)) == 2
    for example in examples:
        command, arguments = add_common_options(get_group(app)), shlex.split(re.split(" [>|] ", example)[0])
        names, context = ["dbctl"], None
        while True:
            context = command.make_context(names[-1], arguments[1:], parent=context)
            if not hasattr(command, "resolve_command"):
                break
            arguments = [*context._protected_args, *context.args]
            name, command, rest = command.resolve_command(context, arguments)
            names, arguments = [*names, name], [name, *rest]
        assert " ".join(names) == f"dbctl {words}"


@pytest.mark.parametrize("line", ["users show nobody", "users list --sort nonsense", "settings get no.such"])
def test_failure_matches_its_schema(line: str, app_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    status = main([*line.split(), "-o", "json"])
    response = json.loads(capsys.readouterr().out)
    assert (response["exit_code"], response["ok"]) == (status, False)
    schema = {**SCHEMAS["answers"][response["schema"]], "$defs": SCHEMAS["$defs"]}
    Draft202012Validator(schema).validate(response)
    assert response["error"]["code"] in load_registry()


def test_every_command_has_schema_help_and_test_line() -> None:
    words = set(reference.list_commands())
    assert words == set(reference.read_specs())
    tested = {command for command in words if any(f"{line} ".startswith(f"{command} ") for line in LINES)}
    tested |= {item for item in words if item.startswith("search index ")}  # tested in test_everywhere
    tested |= {"users add-role", "users remove-role"}  # with other apps, in test_role_forms
    tested |= {"apps maintenance"}  # with its programs, in test_hooks
    tested |= {"search semantic", "search vectors store", "search vectors make"}  # tested below
    on_servers = {
        "maintain cancel",
        "stats connections",
        "stats slow",
        "integrity repair",
    }  # other tests compare them with their schema
    on_servers |= {"users check-password"}  # it reads standard input
    assert words - tested == on_servers, "add a line with the command to LINES of this module"


def test_semantic_search_matches_its_schema(tmp_path, capsys) -> None:
    chat_lancedb.deployed(tmp_path / "chat.db")
    lance.create_table(tmp_path / "lancedb")
    urls = ["--url", f"chat={tmp_path}/chat.db", "--url", f"vectors=lancedb:{tmp_path}/lancedb"]
    words = ["search", "semantic", "--similar-to", "msg-00003", "--limit", "3", "-o", "json"]
    assert main(["--profile", "chat-lancedb", *urls, *words]) == 0
    response = json.loads(capsys.readouterr().out)
    schema = {**SCHEMAS["answers"][response["schema"]], "$defs": SCHEMAS["$defs"]}
    Draft202012Validator(schema).validate(response)
    assert [row["stored"] for row in response["data"]["items"]] == [False] * 3


@pytest.mark.parametrize("words", [["make"], ["make", "--dry-run"], ["store", "msg-1", "near.json"]])
def test_vector_commands_match_their_schema(words, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    chat_lancedb.deployed(tmp_path / "data/chat.db")
    chat_lancedb.create_vectors(tmp_path / "data/lancedb")
    assert main(["init", "chat-lancedb"]) == 0
    (tmp_path / "near.json").write_text(json.dumps([1.0] * lance.SIZE))
    with (tmp_path / "dbctl.toml").open("a") as file:
        file.write('[apps.chat-lancedb.embedder]\nkind = "command"\ncommand = ["cat", "near.json"]\n')
    capsys.readouterr()
    assert main(["search", "vectors", *words, "--yes", "-o", "json"]) == 0
    response = json.loads(capsys.readouterr().out)
    schema = {**SCHEMAS["answers"][response["schema"]], "$defs": SCHEMAS["$defs"]}
    Draft202012Validator(schema).validate(response)


def test_reference_is_current() -> None:
    assert json.loads(json.dumps(reference.build_schemas())) == SCHEMAS, "run make golden"
    assert (reference.PAGES / "commands.md").read_text(encoding="utf-8") == reference.commands_page(), (
        "run make golden"
    )
    assert (reference.PAGES / "lint.md").read_text(encoding="utf-8") == reference.lint_page(), (
        "run make golden"
    )
    assert (reference.PAGES / "metrics.md").read_text(encoding="utf-8") == reference.metrics_page(), (
        "run make golden"
    )
    assert (reference.PAGES / "errors.md").read_text(encoding="utf-8") == reference.errors_page(), (
        "run make golden"
    )
    assert (reference.PAGES / "configuration.md").read_text(
        encoding="utf-8"
    ) == schema_pages.configuration_page(), "run make golden"
    assert (reference.PAGES / "profile.md").read_text(encoding="utf-8") == schema_pages.profile_page(), (
        "run make golden"
    )


def test_every_key_of_profiles_has_a_valid_example() -> None:
    schema = json.loads(generate.build_schema())
    examples = schema_pages.collect_examples(schema)
    for name, section in schema["$defs"].items():
        for key, described in section["properties"].items():
            if not schema_pages.contains_section(described):
                validator = Draft202012Validator({**described, "$defs": schema["$defs"]})
                assert (name, key) in examples, "add an example to EXAMPLES of tools/schema_pages.py"
                assert list(validator.iter_errors(examples[name, key])) == [], f"{name}.{key}"


def test_every_key_of_the_configuration_has_a_meaning_and_a_valid_example() -> None:
    schema = json.loads(generate.build_config_schema())
    for name, section in schema["$defs"].items():
        for key, described in section["properties"].items():
            assert described["description"], f"{name}.{key}"
            if not schema_pages.contains_section(described):
                validator = Draft202012Validator({**described, "$defs": schema["$defs"]})
                examples = schema_pages.CONFIGURATION_EXAMPLES
                assert (name, key) in examples, (
                    "add an example to CONFIGURATION_EXAMPLES of tools/schema_pages.py"
                )
                assert list(validator.iter_errors(examples[name, key])) == [], f"{name}.{key}"


@pytest.mark.parametrize("error", sorted(load_registry().values(), key=lambda error: error.code))
def test_error_has_code_sentence_and_remedy(error: type[DbctlError]) -> None:
    assert error.code == error.code.lower().replace("_", "-")
    assert error.sentence
    assert error.remedy
    assert not error.sentence.endswith("."), "the sentence must be valid after 'dbctl:'"
