"""Generated files are current, and results match their schemas."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dbctl.cli import _catalog
from dbctl.cli.main import create_root, main
from dbctl.config.environment import bundled_folder
from dbctl.errors.base import load_registry
from dbctl.model import ChangeResult
from dbctl.services.setup.init import InitConfig
from dbctl.spec import APPS
from tests import examples
from tests.cli import closings
from tests.fault_proxy import FaultProxy
from tests.further_examples import FURTHER_EXAMPLES
from tests.receivers import receive_http
from tests.services.flashpoint_app import copy_deployment
from tests.shapes import flashpoint_web
from tools import commands, reference, schema_pages
from tools import profiles as generate

SCHEMAS = json.loads(reference.SCHEMAS.read_text(encoding="utf-8"))

EXAMPLES = examples.read_examples("flashpoint-web")
#: Values of the placeholders of examples; ``setting``, ``backup`` and ``game`` depend on the deployment.
PLACEHOLDERS = {
    "app": "fp",
    "change": "email=root@example.net",
    "column": "username",
    "db": "user",
    "dump": "copy_20260105_030000.db",
    "login": "eve",
    "migration": "2",
    "new": "zoe",
    "operation": "6",
    "profile": "flashpoint-web",
    "report": "most-played",
    "role": "helper",
    "row": "2",
    "run": "1",
    "search": "games",
    "table": "users",
    "log": "login_attempts",
    "urls": "",
    "value": "Arcade",
    "word": "puzzle",
}
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
    """Create a deployment of each variant."""
    return create_deployment(tmp_path_factory.mktemp("deployment") / request.param, receiver.url)


def create_deployment(folder: Path, receiver: str = "") -> Path:
    """Create a deployment with its configuration and input files; its folder is named after the variant.

    ``receiver`` is the address that receives notifications; empty: none are sent.
    """
    if folder.name == "document":
        copy_deployment(folder)
    else:
        flashpoint_web.deployed_user_db(folder / "backend" / "user.db")
        flashpoint_web.launcher_extras_db(folder / "Data" / "flashpoint.sqlite")
        flashpoint_web.add_user(folder / "backend" / "user.db", "admin", 1)
    (folder / "users.csv").write_text(
        "username,email,password\nmia,mia@example.org,long enough\n", encoding="utf-8"
    )
    (folder / "attempts.csv").write_text("username,ip_address\neve,10.0.0.7\n", encoding="utf-8")
    (folder / "settings.json").write_text(json.dumps({KEYS[folder.name]: "Arcade"}), encoding="utf-8")
    (folder / "steps").mkdir()
    (folder / "steps" / "001_notes.sql").write_text(
        "-- migrate:up\ncreate table notes (text text);\n-- migrate:down\ndrop table notes;\n",
        encoding="utf-8",
    )
    shutil.copy(folder / "backend" / "user.db", folder / "copy_20260105_030000.db")
    with tarfile.open(folder / "files.tar", "w") as archive:
        archive.add(folder / "settings.json", "settings.json")
    InitConfig(
        "flashpoint-web", folder, app="fp", file=folder / "dbctl.toml", urls=(), protected=False
    ).apply()
    with (folder / "dbctl.toml").open("a", encoding="utf-8") as file:
        file.write('[apps.fp.migrations]\nuser = "migrations"\n')
        if receiver:
            file.write(f'[notify]\nping = "{receiver}/{{command}}"\n[notify.webhook]\nurl = "{receiver}"\n')
    shutil.copytree(
        Path(bundled_folder("migrations")) / "flashpoint-web" / "user" / "document", folder / "migrations"
    )
    pending = "005_notes.sql"
    if folder.name == "deployed":  # the folder of this ledger
        shutil.rmtree(folder / "migrations")
        (folder / "migrations").mkdir()
        shutil.copy(flashpoint_web.DEPLOYED, folder / "migrations")
        pending = "002_notes.sql"
    (folder / "migrations" / pending).write_text("create table notes (text text);\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DBCTL_STATE", str(folder / "state"))
        for line in filter(examples.is_installed, BEFORE):
            assert main(line.split()) == 0
    return folder


@pytest.fixture
def app_folder(deployment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the deployment, and make the copy the working directory."""
    folder = tmp_path / deployment.name
    examples.copy_deployment(deployment, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.setenv("DBCTL_STATE", str(folder / "state"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    return folder


def split_line(line: str, folder: Path) -> list[str]:
    """Return the arguments of a line for the deployment in ``folder``."""
    with closing(
        sqlite3.connect(f"file:{folder}/Data/flashpoint.sqlite?immutable=1", uri=True)
    ) as connection:
        (game,) = connection.execute("select id from game").fetchone() or ("none",)
    backup = max(path.parent.name for path in folder.glob("backups/*/*/manifest.json"))
    return examples.split_line(
        line, PLACEHOLDERS | {"setting": KEYS[folder.name], "game": game, "backup": backup}
    )


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


def is_change(line: str) -> bool:
    return "--dry-run" not in line and any(
        isinstance(type_, type) and issubclass(type_, ChangeResult)
        for type_ in reference.find_spec(line).answers()
    )


def validate(response: Mapping[str, Any]) -> None:
    """Compare a JSON object with its schema."""
    create_validator(response["schema"]).validate(response)


@cache
def create_validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({**SCHEMAS["answers"][name], "$defs": SCHEMAS["$defs"]})


#: Lines whose command changes nothing, or fails.
WITHOUT_CHANGE = [line for line, example in EXAMPLES.items() if example.status or not is_change(line)]
#: The beginnings of those that create files, which a second run refuses to replace.
CREATES_FILES = ("demo ", "support --to ")


@pytest.mark.parametrize("line", WITHOUT_CHANGE)
def test_result_matches_schema_and_no_command_changes_launcher_database(
    line: str, app_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one variant, also as table. Changes: ``test_effects`` validates their results."""
    for needed in EXAMPLES[line].needs:
        assert needed not in EXAMPLES or main(split_line(needed, app_folder)) == 0
    words, launcher = split_line(line, app_folder), read_launcher_state(app_folder)
    capsys.readouterr()
    status = main([*words, "-o", "json"])
    response = json.loads(capsys.readouterr().out)
    assert read_launcher_state(app_folder) == launcher
    assert status == EXAMPLES[line].status, response
    validate(response)
    if app_folder.name == "document" and not line.startswith(CREATES_FILES):
        check_table(line, app_folder, capsys)


@pytest.mark.parametrize("deployment", ["document"], indirect=True)
@pytest.mark.parametrize(
    "line", [line for line in EXAMPLES if line not in WITHOUT_CHANGE or line.startswith(CREATES_FILES)]
)
def test_change_is_written_as_table_and_no_command_changes_launcher_database(
    line: str, app_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_table(line, app_folder, capsys)


def check_table(line: str, app_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, launcher = split_line(line, app_folder), read_launcher_state(app_folder)
    capsys.readouterr()
    status = main(words)
    output = capsys.readouterr()
    assert read_launcher_state(app_folder) == launcher
    assert status == EXAMPLES[line].status
    closing_lines = closings.read_closing_lines(output.err)
    assert len(closing_lines) <= 1, output.err
    assert closing_lines or status or not closings.has_closing_line(line), output.err
    assert "\x1b" not in output.out


@pytest.mark.parametrize(("words", "text"), reference.list_commands().items())
def test_help_has_two_valid_examples_of_the_command(words: str, text: str) -> None:
    examples = re.findall(r"^    (dbctl .*)$", text.partition("\n  Examples:\n")[2], re.MULTILINE)
    assert len(set(examples)) == 2
    for example in examples:
        command, arguments = create_root(), shlex.split(re.split(" [>|] ", example)[0])
        names, context = ["dbctl"], None
        while True:
            context = command.make_context(names[-1], arguments[1:], parent=context)
            if not hasattr(command, "resolve_command"):
                break
            arguments = [*context._protected_args, *context.args]
            name, command, rest = command.resolve_command(context, arguments)
            names, arguments = [*names, name], [name, *rest]
        assert " ".join(names) == f"dbctl {words}"


@pytest.mark.parametrize("deployment", ["document"], indirect=True)
@pytest.mark.parametrize("line", ["users show nobody", "users list --sort nonsense", "settings get no.such"])
def test_failure_matches_its_schema(line: str, app_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    status = main([*line.split(), "-o", "json"])
    response = json.loads(capsys.readouterr().out)
    assert (response["exit_code"], response["ok"]) == (status, False)
    validate(response)
    assert response["error"]["code"] in load_registry()


def test_every_command_has_schema_help_and_example() -> None:
    assert set(reference.list_commands()) == set(reference.read_specs())
    tested = {"users add-role", "users remove-role"}  # with other apps, in test_role_forms
    tested |= {"apps maintenance"}  # with its programs, in test_hooks
    tested |= {"search semantic", "search vectors store", "search vectors make"}  # tested below
    tested |= {f"search index {word}" for word in ("status", "build", "repair", "drop")}  # in test_everywhere
    # other tests compare them with their schema
    tested |= {"maintain cancel", "stats connections", "stats slow", "integrity repair"}
    tested |= {"users check-password", "mcp"}  # they read standard input
    tested |= {
        "profiles learn",
        "profiles prove",
    }  # with the states of applications, in tests/extensions/drafts/learning
    tested &= reference.read_specs().keys()
    assert examples.list_untested(EXAMPLES) == tested, "add an example of the command on flashpoint-web"


def test_examples_name_apps_and_lines_that_exist() -> None:
    declared = [example for spec in reference.read_specs().values() for example in spec.examples]
    lines = {line for app in APPS for line in examples.read_examples(app)}
    for example in [*declared, *FURTHER_EXAMPLES]:
        assert set(example.on.split()) <= set(APPS), example
        assert set(example.needs) <= lines, example
        assert example.shown or example.on or example.meaning, f"nothing uses {example}"


@pytest.mark.needs_extension
def test_catalog_of_commands_is_that_of_the_declarations() -> None:
    assert _catalog.FILE.read_text(encoding="utf-8") == commands.build_catalog(), "run make golden"


@pytest.mark.needs_extension
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


@pytest.mark.needs_extension
def test_every_key_of_profiles_has_a_valid_example() -> None:
    schema = json.loads(generate.build_schema())
    examples = schema_pages.collect_examples(schema)
    for name, section in schema["$defs"].items():
        for key, described in section["properties"].items():
            if not schema_pages.contains_section(described):
                validator = Draft202012Validator({**described, "$defs": schema["$defs"]})
                assert (name, key) in examples, "add an example to EXAMPLES of tools/schema_pages.py"
                assert list(validator.iter_errors(examples[name, key])) == [], f"{name}.{key}"


@pytest.mark.needs_extension
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
