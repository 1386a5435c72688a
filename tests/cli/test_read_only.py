"""No attempt to write changes the launcher's database; ``test_reference.py`` tests the same of every other command."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbctl.cli.main import main
from dbctl.config.sections import Selection
from dbctl.errors.connection import ReadOnlyError
from tests.cli.test_reference import app_folder, deployment, read_launcher_state, receiver, split_line  # noqa: F401 - fixtures

#: Commands that would write it.
WRITE_ATTEMPTS = [
    "migrate up --db flashpoint",
    "migrate down --db flashpoint --yes",
    "migrate up --url user=Data/flashpoint.sqlite",
    "migrate new more --db flashpoint",
    "users create mallory --email m@example.org --generate --db flashpoint",
    "users create mallory --email m@example.org --generate --url user=Data/flashpoint.sqlite",
    "data import fresh dbctl.toml --create --db flashpoint",
    "users list --url user=Data/flashpoint.sqlite",
    "settings set {setting} x --url user=Data/flashpoint.sqlite",
    """search games "x';" drop table 'game;' --""",
    "users delete mallory --yes --url user=Data/flashpoint.sqlite",
]


@pytest.mark.parametrize("line", WRITE_ATTEMPTS)
def test_write_attempt_does_not_change_launcher_database(line: str, app_folder: Path) -> None:  # noqa: F811 - a fixture
    before = read_launcher_state(app_folder)
    main(split_line(line, app_folder))
    assert read_launcher_state(app_folder) == before


@pytest.mark.parametrize("line", WRITE_ATTEMPTS[:8])
def test_write_to_read_only_database_is_refused(line: str, app_folder: Path) -> None:  # noqa: F811 - a fixture
    assert main(split_line(line, app_folder)) in {2, 6}


@pytest.mark.parametrize(
    "line",
    [
        "data set game --filter title!=x developer=x --db flashpoint",
        "data delete game_data --filter id>0 --db flashpoint",
        "data import fresh dbctl.toml --create --db flashpoint",
    ],
)
def test_plan_to_write_read_only_database_is_refused(
    line: str,
    app_folder: Path,  # noqa: F811 - a fixture
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*split_line(line, app_folder), "--dry-run"]) == 6
    assert "read-only" in capsys.readouterr().err


def test_read_only_database_is_refused_before_opening(app_folder: Path) -> None:  # noqa: F811 - a fixture
    """The file does not even have to exist."""
    from dbctl.services.app.session import open_app

    (app_folder / "Data" / "flashpoint.sqlite").unlink()
    with open_app(Selection(), timeout=1) as app, pytest.raises(ReadOnlyError), app.writer("flashpoint"):
        pass
