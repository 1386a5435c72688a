"""The section of the configuration, with the extension and without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbctl.config import loader
from dbctl.config.sections import Selection
from dbctl.errors.usage import ConfigInvalidError
from dbctl.extensions.schedule.section import Schedule, read_section
from tests.extensions.absence import Remainder

CONFIGURATION = """\
[apps.shop]
profile = "plain"
databases.main = "shop.db"
"""
SECTION = "[apps.shop.schedule]\n"


def write(folder: Path, text: str) -> Selection:
    (folder / "dbctl.toml").write_text(CONFIGURATION + text)
    return Selection(config=str(folder / "dbctl.toml"), app="shop")


@pytest.fixture(scope="module")
def remainder(tmp_path_factory: pytest.TempPathFactory) -> Remainder:
    return Remainder(tmp_path_factory.mktemp("remainder") / "dbctl", "schedule")


def test_section_is_read_and_has_defaults(tmp_path):
    assert read_section(loader.find_app(write(tmp_path, f'{SECTION}vacuum = "0 4 1 * *"'))) == Schedule(
        vacuum="0 4 1 * *"
    )
    assert read_section(loader.find_app(write(tmp_path, ""))) == Schedule()


@pytest.mark.parametrize(
    ("text", "line", "key", "reason"),
    [
        (f"{SECTION}bakup = 'off'", 5, "apps.shop.schedule.bakup", "unknown key (did you mean 'backup'?)"),
        (f"{SECTION}backup = 3", 5, "apps.shop.schedule.backup", "must be text, not 3"),
        ("schedul = {}", 4, "apps.shop.schedul", "unknown key (did you mean 'schedule'?)"),
        (
            "[apps.shop.schedule.databases.main]\nbackups = 'off'",
            5,
            "apps.shop.schedule.databases.main.backups",
            "unknown key (did you mean 'backup'?)",
        ),
        (f"protectd = true\n{SECTION}", 4, "apps.shop.protectd", "unknown key (did you mean 'protected'?)"),
    ],
)
def test_error_has_line_and_key(tmp_path, text, line, key, reason):
    with pytest.raises(ConfigInvalidError) as caught:
        loader.find_app(write(tmp_path, text))
    context = caught.value.context
    assert (context["line"], context["key"]) == (line, key)
    assert reason in context["reason"]


@pytest.mark.slow
def test_section_of_the_absent_extension_is_ignored(tmp_path, remainder):
    write(tmp_path, f"{SECTION}anything = 3")
    (tmp_path / "shop.db").touch()
    for words in (["config", "validate"], ["stats", "tables"], ["status"], ["doctor"]):
        process = remainder.run(*words, cwd=tmp_path)
        assert "anything" not in process.stdout + process.stderr
        assert process.returncode in (0, 3), process.stderr


def test_other_unknown_keys_are_refused_without_the_extension(tmp_path, remainder):
    write(tmp_path, "schedul = {}")
    process = remainder.run("stats", "tables", cwd=tmp_path)
    assert process.returncode == 2
    assert "unknown key (did you mean 'schedule'?)" in process.stderr


def test_commands_are_absent_with_the_extension(tmp_path, remainder):
    assert "schedule " not in remainder.run("help", cwd=tmp_path).stdout
    assert remainder.run("schedule", "cron", cwd=tmp_path).returncode == 2
