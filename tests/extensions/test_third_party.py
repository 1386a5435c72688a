"""Extensions of other distributions: the toy, built as a wheel and installed, and broken ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.cli import shells
from tests.extensions.third_party import ROOT, run_dbctl

CONFIGURATION = """\
[apps.shop]
profile = "plain"
[apps.shop.databases]
main = "shop.db"
"""
#: Entry points of extensions that cannot be used, and what ``doctor`` reports about them.
BROKEN = {
    "absent_module": ("nothing.here:EXTENSION", "No module named 'nothing'"),
    "other_type": ("json:dumps", "is of the type function, not Extension"),
    "other_name": ("dbctl_toy.extension:EXTENSION", "its name 'toy' is not that of its entry point"),
    "future": ("dbctl_broken:FUTURE", "it uses version 99 of the interface of extensions"),
    "malformed": ("dbctl_broken:MALFORMED", "its import failed: TypeError"),
    "exits": ("dbctl_exits:EXTENSION", "its import failed: SystemExit"),
    "group": ("dbctl_broken:GROUP", "the command 'users' exists"),
    "command": ("dbctl_broken:COMMAND", "the command 'data rows' exists"),
    "extension": ("dbctl_broken:EXTENSION", "the command 'metrics' exists"),
    "dotted": ("dbctl_broken:DOTTED", "the command 'toy.x' has other characters than small letters"),
    "alone": ("dbctl_broken:ALONE", "the command 'nothing toy' belongs to no group"),
    "toy_again": ("dbctl_broken:AGAIN", "the command 'toy' exists"),
    "section": ("dbctl_broken:SECTION", "the section 'backup' of apps exists"),
    "profile_section": ("dbctl_broken:PROFILE_SECTION", "the section 'users' of profiles exists"),
    "channel": ("dbctl_broken:CHANNEL", "the section 'email' of [notify] exists"),
    "set": (
        "dbctl_broken:SET",
        "the set of checks 'docter' does not exist; there are doctor, configuration,",
    ),
    "purpose": ("dbctl_broken:PURPOSE", "it has 'on_run', which only extensions of dbctl itself have"),
    "engine": ("dbctl_broken:ENGINE", "the engine 'lancedb' exists"),
}
MODULE = """\
from dbctl.extensions.base import Extension, SectionEntry
from dbctl.url import EngineEntry
FUTURE = Extension(name="future", api=99)
GROUP = Extension(name="group", groups={"users": "dbctl_toy.commands"})
COMMAND = Extension(name="command", commands={"data rows": "dbctl_toy.data"})
SECTION = Extension(name="section", app_sections={"backup": SectionEntry(kind="builtins:dict", meaning="", after="url")})
PROFILE_SECTION = Extension(name="profile_section", profile_sections={"users": SECTION.app_sections["backup"]})
CHANNEL = Extension(name="channel", channels={"email": SECTION.app_sections["backup"]})
SET = Extension(name="set", checks={"doctor": [], "docter": ["dbctl_toy.checks:check_size"]})
PURPOSE = Extension(name="purpose", on_run="dbctl_toy.checks:check_size")
EXTENSION = Extension(name="extension", groups={"metrics": "dbctl_toy.commands"})
MALFORMED = Extension(name="malformed", groups=None)
DOTTED = Extension(name="dotted", groups={"toy.x": "dbctl_toy.commands"})
ALONE = Extension(name="alone", commands={"nothing toy": "dbctl_toy.data"})
AGAIN = Extension(name="toy_again", groups={"toy": "dbctl_toy.commands"})
ENGINE = Extension(name="engine", engines={"lancedb": EngineEntry(place="dbctl_toy.engine:ENGINE", kind="file")})
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Create an app with one table of two rows."""
    script = "create table goods (id integer primary key); insert into goods values (1), (2);"
    subprocess.run(["sqlite3", tmp_path / "shop.db", script], check=True)
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)
    return tmp_path


def run(app: Path, installed: Path | None, *words: str, status: int = 0) -> str:
    process = run_dbctl(app, installed, *words)
    assert process.returncode == status, process.stderr
    return process.stdout + process.stderr


def install_broken(folder: Path, toy: Path) -> None:
    """Install a distribution with all broken extensions, next to the toy."""
    shutil.copytree(toy, folder)
    (folder / "dbctl_broken.py").write_text(MODULE)
    (folder / "dbctl_exits.py").write_text("raise SystemExit(3)\n")
    metadata = folder / "dbctl_broken-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dbctl-broken\nVersion: 1.0\n")
    lines = [f"{name} = {place}\n" for name, (place, _) in BROKEN.items()]
    (metadata / "entry_points.txt").write_text("".join(["[dbctl.extensions]\n", *lines]))


def test_commands_of_another_distribution_are_commands(app, installed):
    answer = json.loads(run(app, installed, "toy", "count", "-o", "json"))
    assert answer["data"]["items"] == [{"database": "main", "table": "goods", "rows": 2}]
    assert "from another distribution" in run(app, installed, "data", "toy")
    assert "no such command 'toy'" in run(app, None, "toy", "count", status=2)
    assert "no such command 'toy'" in run(app, None, "data", "toy", status=2)


def test_it_owns_a_section_of_apps(app, installed):
    configuration = app / "dbctl.toml"
    configuration.write_text(CONFIGURATION + '[apps.shop.toy]\ngreeting = "from the configuration"\n')
    assert "from the configuration" in run(app, installed, "data", "toy")
    assert "unknown key" in run(app, None, "stats", "tables", status=2)
    configuration.write_text(CONFIGURATION + "[apps.shop.toy]\ngreeting = 3\n")
    assert "line 6, apps.shop.toy.greeting: " in run(app, installed, "data", "toy", status=2)


def test_it_owns_a_section_of_profiles(app, installed):
    profile = app / "shop.toml"
    (app / "dbctl.toml").write_text(CONFIGURATION.replace('"plain"', '"shop.toml"'))
    core = (
        'schema = "dbctl.profile/1"\nname = "shop"\ntitle = "Shop"\n[databases.main]\nengines = ["sqlite"]\n'
    )
    profile.write_text(core + "[toy]\ntable = 'goods'\n")
    run(app, installed, "apps", "check")
    assert "unknown key" in run(app, None, "apps", "check", status=2)
    profile.write_text(core + "[toy]\ntable = 'services'\n")
    assert "toy.table)" in run(app, installed, "apps", "check", status=4)
    profile.write_text(core + "[toy]\ntable = 'goods'\ngoods = 2\n")
    assert "there are more goods than databases" in run(
        app, installed, "apps", "check", "-o", "json", status=2
    )
    profile.write_text(core + "[toy]\ngoods = 3\n")
    assert "toy.table" in run(app, installed, "stats", "tables", status=2)


def test_it_owns_a_channel_of_notifications(app, installed):
    configuration, file = app / "dbctl.toml", app / "titles"
    toyfile = '[notify.toyfile]\npath = "titles"\n'
    configuration.write_text(CONFIGURATION + toyfile)
    tested = json.loads(run_dbctl(app, installed, "notify", "test", "toyfile", "-o", "json").stdout)["data"][
        "items"
    ]
    assert [(item["channel"], item["place"], item["delivered"]) for item in tested] == [
        ("toyfile", "titles", True)
    ]
    assert file.read_text() == "test: shop: test of dbctl notify test\n"
    run(app, installed, "notify", "summary", "--app", "shop")
    assert file.read_text().splitlines()[1] == "summary: shop: summary: no problems"
    assert "line 5, notify.toyfile: unknown key" in run(app, None, "notify", "test", status=2)
    assert "did you mean 'toyfile'" in run_with_channel(app, installed, "[notify.toyfil]\n")
    assert "notify.toyfile.path: it is empty" in run_with_channel(
        app, installed, '[notify.toyfile]\npath = ""\n'
    )


def test_a_channel_of_an_app_is_added_to_those_of_all(app, installed):
    (app / "dbctl.d").mkdir()
    (app / "dbctl.d/all.toml").write_text('[notify.toyfile]\npath = "all"\n')
    own = '[apps.shop.notify.toyfile]\npath = "own"\n[apps.shop.notify]\non = ["failed"]\n'
    other = (
        '[apps.other]\nprofile = "plain"\ndatabases = "missing.db"\n[apps.other.backup]\nrepository = "b"\n'
    )
    (app / "dbctl.toml").write_text(CONFIGURATION + own + other)
    run(app, installed, "notify", "test")
    assert [(app / name).read_text().partition(" test")[0] for name in ("own", "all")] == [
        "test: shop:",
        "test: other:",
    ]
    run(app, installed, "backup", "create", "--app", "other", status=10)
    assert (app / "all").read_text().splitlines()[1].startswith("failed: other: backup create failed")


def test_channel_that_cannot_be_imported_fails_no_command(app, installed, tmp_path):
    folder = shutil.copytree(installed, tmp_path / "changed")
    channel = folder / "dbctl_toy/channel.py"
    channel.write_text(channel.read_text().replace("class FileChannel", "class OtherChannel"))
    backup = '[apps.shop.backup]\nrepository = "backups"\n'
    (app / "dbctl.toml").write_text(f'{CONFIGURATION}{backup}[notify.toyfile]\npath = "titles"\n')
    assert "has no attribute 'FileChannel'" in run(app, folder, "notify", "test", "-o", "json", status=10)
    assert "Backed up" in run(app, folder, "backup", "create")


def run_with_channel(app: Path, installed: Path, text: str) -> str:
    (app / "dbctl.toml").write_text(CONFIGURATION + text)
    return run(app, installed, "stats", "tables", status=2)


def test_its_sections_are_in_the_schema_of_the_configuration(app, installed):
    schema = json.loads(run(app, installed, "config", "schema"))
    own = json.loads(run(app, None, "config", "schema"))
    assert schema == json.loads(run(app, installed, "config", "schema", "-o", "json"))["data"]
    assert schema["$defs"].keys() - own["$defs"].keys() == {"toy.Toy", "toy.ToyFile"}
    keys = [*schema["$defs"]["AppConfig"]["properties"]]
    assert keys[keys.index("search") + 1] == "toy"
    content = {
        "apps": {"shop": {"profile": "plain", "toy": {"greeting": "a"}}},
        "notify": {"toyfile": {"path": "b"}},
    }
    validator = Draft202012Validator(schema)
    assert validator.is_valid(content)
    assert not Draft202012Validator(own).is_valid(content)
    content["notify"]["toyfile"]["path"] = 3
    (error,) = validator.iter_errors(content)
    assert [*error.path][:1] == ["notify"]
    explained = json.loads(run(app, installed, "config", "explain", "toy.greeting", "-o", "json"))["data"]
    assert (explained["key"], explained["type"], explained["meaning"]) == (
        "apps.NAME.toy.greeting",
        "text",
        "the text",
    )
    (app / "dbctl.toml").write_text(CONFIGURATION + "[apps.shop.toy]\n")
    assert "from another distribution" in run(app, installed, "config", "show", "--defaults")


def test_section_that_cannot_be_imported_is_not_in_the_schema(app, installed, tmp_path):
    folder = shutil.copytree(installed, tmp_path / "changed")
    (folder / "dbctl_toy/channel.py").write_text("import nothing_here\n")
    definitions = json.loads(run(app, folder, "config", "schema"))["$defs"]
    assert ("toy.Toy" in definitions, "toy.ToyFile" in definitions) == (True, False)


def test_its_commands_are_in_the_help_and_in_suggestions(app, installed):
    for words in (["--help"], ["help"]):
        text = run(app, installed, *words)
        assert "Count the rows of all tables." in text
        assert text.replace("  toy              Count the rows of all tables.\n", "") == run(
            app, None, *words
        )
    assert "Print a text." in run(app, installed, "data", "--help")
    assert "dbctl toy count" in run(app, installed, "toy", "count", "--help")
    assert "did you mean 'toy'" in run(app, installed, "toi", status=2)


def test_versions_list_it(app, installed):
    versions = json.loads(run(app, installed, "version", "-o", "json"))["data"]["items"]
    assert [item["version"] for item in versions if item["name"] == "dbctl-toy"] == ["0.1"]


def test_broken_extensions_are_findings_and_affect_no_command(app, installed, tmp_path):
    folder = tmp_path / "broken"
    install_broken(folder, installed)
    assert run(app, folder, "data", "rows", "goods") == run(app, None, "data", "rows", "goods")
    assert run(app, folder, "--help") == run(app, installed, "--help")
    assert "goods" in run(app, folder, "toy", "count")
    findings = json.loads(run(app, folder, "doctor", "-q", "-o", "json", status=4))["data"]["findings"]
    messages = [item["message"] for item in findings if item["code"] == "extension-invalid"]
    assert len(messages) == len(BROKEN)
    for name, (_, reason) in BROKEN.items():
        assert any(f"the extension {name} of dbctl-broken" in text and reason in text for text in messages)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nothing_here\n", "ModuleNotFoundError: No module named 'nothing_here'"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("", "AttributeError: module 'dbctl_toy.commands' has no attribute 'GROUP'"),
    ],
)
def test_module_that_cannot_be_imported_fails_only_its_own_command(app, installed, tmp_path, code, reason):
    folder = shutil.copytree(installed, tmp_path / "changed")
    (folder / "dbctl_toy/commands.py").write_text(code)
    text = run(app, folder, "toy", "count", status=2)
    assert f"dbctl_toy.commands:GROUP cannot be imported: {reason}" in text
    assert "from another distribution" in run(app, folder, "data", "toy")
    assert run(app, folder, "--help") == run(app, None, "--help")


@pytest.mark.slow
def test_module_of_a_joined_command_that_cannot_be_imported_fails_only_this_command(app, installed, tmp_path):
    folder = shutil.copytree(installed, tmp_path / "changed")
    (folder / "dbctl_toy/data.py").write_text("import nothing_here\n")
    assert "dbctl_toy.data:GROUP cannot be imported" in run(app, folder, "data", "toy", status=2)
    assert run(app, folder, "data", "--help") == run(app, None, "data", "--help")
    assert "did you mean 'rows'" in run(app, folder, "data", "row", status=2)
    assert "goods" in run(app, folder, "toy", "count")
    assert "data_toy" not in list_answers(app, folder)


def list_answers(app: Path, installed: Path) -> dict[str, Any]:
    """Return the JSON Schema of the answers of each tool of ``dbctl mcp``, in a process that has other distributions."""
    code = (
        "import json\nfrom dbctl.extensions.mcp.tools import list_tools\n"
        "print(json.dumps({name: tool.offer.output_schema for name, tool in list_tools(max_rows=9).items()}))\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(app),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{installed}",
    }
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=app, env=environment, capture_output=True, check=True
    )
    return dict(json.loads(process.stdout))


def test_schema_of_its_answers_is_that_of_its_types(app, installed, tmp_path):
    schemas = list_answers(app, installed)
    assert "toy_count" not in schemas  # its runs are recorded
    answer = json.loads(run(app, installed, "data", "toy", "-o", "json"))
    schema = schemas["data_toy"]
    validator = Draft202012Validator(schema)
    validator.validate(answer)
    answer["data"]["text"] = 3
    assert [[*error.path] for error in validator.iter_errors(answer)] == [["data"]]
    own = schemas["users_list"]
    assert own["$defs"]["error"].keys() == schema["$defs"]["error"].keys()
    folder = shutil.copytree(installed, tmp_path / "changed")
    module = folder / "dbctl_toy/data.py"
    module.write_text(module.read_text().replace("(Greeting,)", "(nothing.Here,)"))
    assert list_answers(app, folder) == {**schemas, "data_toy": None}


@pytest.mark.parametrize("name", ["bash", "zsh", pytest.param("fish", marks=pytest.mark.slow)])
def test_tab_completes_its_commands(app, installed, name):
    with shells.open_shell(name, app, PYTHONPATH=f"{ROOT}{os.pathsep}{installed}") as shell:
        assert shell.complete("dbctl to") == "dbctl toy "
        assert shell.complete("dbctl toy co") == "dbctl toy count "
        assert shell.complete("dbctl data to") == "dbctl data toy "
        assert shell.complete("dbctl users li") == "dbctl users list "


def test_checks_that_cannot_be_imported_are_findings_of_their_sets(app, installed, tmp_path):
    folder = tmp_path / "late"
    metadata = folder / "dbctl_late-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dbctl-late\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[dbctl.extensions]\nlate = dbctl_late:EXTENSION\n")
    (folder / "dbctl_late.py").write_text(
        "from dbctl.extensions.base import Extension\n"
        "places = ['dbctl_absent.checks:A']\n"
        "EXTENSION = Extension(name='late', checks={'doctor': places, 'profile': places})\n"
    )
    for words, status in ((["doctor"], 2), (["apps", "check"], 4)):
        answer = run(app, folder, *words, "-o", "json", status=status)
        assert '"code": "extension-invalid"' in answer
        assert "dbctl_absent.checks:A cannot be imported: ModuleNotFoundError" in answer
    run(app, folder, "integrity", "check")


def test_its_command_runs_on_a_fleet_and_is_in_the_journal(app, installed):
    (app / "shops").mkdir()
    for name in ("a", "b"):
        shutil.copy(app / "shop.db", app / "shops" / name)
    (app / "dbctl.toml").write_text(
        '[apps.shop]\nprofile = "plain"\n[apps.shop.databases]\nmain = "shops/*"\n'
    )
    fleet = json.loads(run_dbctl(app, installed, "toy", "count", "-o", "json").stdout)["data"]
    assert {item["app"]: item["data"]["items"][0]["rows"] for item in fleet["items"]} == {
        "shop/a": 2,
        "shop/b": 2,
    }
    (recorded,) = json.loads(run(app, installed, "runs", "list", "-o", "json"))["data"]["items"]
    assert (recorded["command"], recorded["exit_code"]) == ("toy count", 0)


@pytest.mark.parametrize("words", [["doctor"], ["apps", "check"]])
def test_its_check_is_run_with_those_of_dbctl(app, installed, words):
    assert "toy-large" not in run(app, installed, *words)
    subprocess.run(
        ["sqlite3", app / "shop.db", "insert into goods select value from generate_series(3, 1001)"],
        check=True,
    )
    findings = json.loads(run_dbctl(app, installed, *words, "-o", "json").stdout)["data"]["findings"]
    (finding,) = [item for item in findings if item["code"] == "toy-large"]
    assert (finding["severity"], finding["target"], finding["message"]) == (
        "warning",
        "shop/main",
        "goods has 1001 rows",
    )
    assert finding["hint"].startswith("Count the rows of all tables with: ")
    assert finding["hint"].endswith("dbctl toy count --app shop")
