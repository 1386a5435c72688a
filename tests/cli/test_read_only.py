"""No command writes the launcher's database or creates a file next to it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dbctl.cli.main import main
from dbctl.config import Selection
from dbctl.errors import ReadOnlyError
from dbctl.services.app import app as app_service
from tests.cli.test_reference import LINES, app_folder, deployment, split_line  # noqa: F401 - fixtures

#: Commands that would write it.
WRITE_ATTEMPTS = [
    "migrate up --db flashpoint",
    "migrate down --db flashpoint --yes",
    "migrate up --url user=Data/flashpoint.sqlite",
    "migrate new more --db flashpoint",
    "users create mallory --email m@example.org --generate --db flashpoint",
    "users create mallory --email m@example.org --generate --url user=Data/flashpoint.sqlite",
    "users list --url user=Data/flashpoint.sqlite",
    "settings set {key} x --url user=Data/flashpoint.sqlite",
    "search games x'; drop table game; --",
]


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return the digest, size, times, inode, mode and owner of every file."""
    state = {}
    for file in folder.iterdir():
        file_stat = file.stat()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        state[file.name] = (
            digest,
            file_stat.st_size,
            file_stat.st_mtime_ns,
            file_stat.st_ino,
            file_stat.st_mode,
            file_stat.st_uid,
        )
    return state


@pytest.mark.parametrize("line", [*LINES, *WRITE_ATTEMPTS])
def test_no_command_changes_launcher_database(line: str, app_folder: Path) -> None:  # noqa: F811 - a fixture
    before, modified_at = snapshot(app_folder / "Data"), (app_folder / "Data").stat().st_mtime_ns
    main(split_line(line, app_folder))
    assert snapshot(app_folder / "Data") == before
    assert (app_folder / "Data").stat().st_mtime_ns == modified_at, "a file was created next to the database"


@pytest.mark.parametrize("line", WRITE_ATTEMPTS[:7])
def test_write_to_read_only_database_is_refused(line: str, app_folder: Path) -> None:  # noqa: F811 - a fixture
    assert main(split_line(line, app_folder)) in {2, 6}


def test_read_only_database_is_refused_before_opening(app_folder: Path) -> None:  # noqa: F811 - a fixture
    """The file does not even have to exist."""
    (app_folder / "Data" / "flashpoint.sqlite").unlink()
    with (
        app_service.open_app(Selection(), timeout=1) as app,
        pytest.raises(ReadOnlyError),
        app.writer("flashpoint", "data set"),
    ):
        pass
