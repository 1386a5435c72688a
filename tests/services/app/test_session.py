"""One session for each invocation of a command: it reads the configuration once, and opens apps."""

from __future__ import annotations

import inspect
import sys
from collections import Counter

import pytest

from dbctl.cli._support import session as command_line
from dbctl.config import loader
from dbctl.config.sections import Selection
from dbctl.errors.usage import AppMissingError, ConfigInvalidError
from dbctl.services.app import session
from dbctl.services.app.session import Session
from dbctl.spec import LIBRARY, CommandSpec
from tests.in_process import run_command
from tests.services.flashpoint_app import copy_configured_deployment

CONFIGURATION = '[apps.shop]\nprofile = "plain"\n[apps.shop.databases]\nmain = "shop.db"\n'
READ_FILE, RESOLVE_APP = "read_sections", "find_app"


def count_reads(words, folder, *, status=0):
    """Return how often a command reads the files of the configuration, resolves the app, and locates the journal."""
    calls = Counter()

    def record(frame, event, _argument):
        if event == "call" and frame.f_code.co_name in (READ_FILE, RESOLVE_APP, "locate_journal"):
            calls[frame.f_code.co_name] += 1

    environment = {"HOME": str(folder), "DBCTL_STATE": str(folder / "state")}
    sys.setprofile(record)
    try:
        result = run_command(words, environment=environment, cwd=folder)
    finally:
        sys.setprofile(None)
    assert result.returncode == status, result.stderr
    return calls


@pytest.fixture
def shop(tmp_path):
    copy_configured_deployment(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "journals"),
    [
        ("users list", 0),
        ("users create zoe --email zoe@example.org --generate", 1),
        ("users set-role --id 2 guest --dry-run", 1),
        ("backup create", 1),
        ("status", 1),
    ],
)
def test_command_reads_its_configuration_once(shop, line, journals):
    calls = count_reads(line.split(), shop)
    assert calls[READ_FILE] == 1
    assert calls[RESOLVE_APP] <= 1
    assert calls["locate_journal"] == journals


def test_invalid_configuration_is_reported_when_an_app_is_selected(tmp_path):
    file = tmp_path / "dbctl.toml"
    file.write_text("[apps.shop]\nprofil = 1\n")
    opened = Session(Selection(config=str(file)), timeout=1)
    assert opened.selection.sections is None
    assert opened.journal.apps == ()
    with pytest.raises(ConfigInvalidError), opened.open_app():
        pass
    file.write_text(CONFIGURATION)
    with (
        pytest.raises(AppMissingError),
        Session(Selection(config=str(file), app="blog"), timeout=1).open_app(),
    ):
        pass


def test_session_without_a_command_line_is_the_strictest_and_records_nothing(tmp_path):
    from dbctl.services.app.session import open_app

    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)
    selection = Selection(config=str(tmp_path / "dbctl.toml"))
    with open_app(selection, timeout=1) as app:
        assert app.spec is LIBRARY
        assert app.recorder is None
    spec = CommandSpec(name="users list", answers=tuple)
    with Session(selection, timeout=2, spec=spec, only="main", acting_as="ann").open_app() as app:
        assert (app.spec, app.timeout, app.only, app.acting_as) == (spec, 2, "main", "ann")


def test_sections_are_those_of_the_first_reading(tmp_path):
    file = tmp_path / "dbctl.toml"
    file.write_text(CONFIGURATION)
    opened = Session(Selection(config=str(file)), timeout=1)
    assert [*opened.selection.sections.apps] == ["shop"]
    file.write_text(CONFIGURATION.replace("shop", "blog"))
    assert loader.find_app(opened.selection).name == "shop"


@pytest.mark.parametrize("module", [session, command_line])
def test_session_is_no_drawer(module):
    """It holds what all parts of an invocation share; what one command needs belongs to the command."""
    assert len(inspect.getsource(module).splitlines()) <= 300
    methods = [name for name in vars(module.Session) if not name.startswith("_")]
    assert len(methods) <= 10
