"""No command writes the launcher's database: not a byte of it, and no file beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dbctl.cli.main import main
from dbctl.config import Selection
from dbctl.errors import ReadOnlyError
from dbctl.services.app import app as apps
from tests.cli.test_reference import LINES, deployment, here, said  # noqa: F401 - fixtures

#: What somebody might try.
TRIES = [
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
    """Return everything of every file: content, size, times, owner, mode."""
    told = {}
    for file in folder.iterdir():
        found = file.stat()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        told[file.name] = (
            digest,
            found.st_size,
            found.st_mtime_ns,
            found.st_ino,
            found.st_mode,
            found.st_uid,
        )
    return told


@pytest.mark.parametrize("line", [*LINES, *TRIES])
def test_no_command_leaves_a_trace_on_the_launchers_database(line: str, here: Path) -> None:  # noqa: F811 - a fixture
    before, listed = snapshot(here / "Data"), (here / "Data").stat().st_mtime_ns
    main(said(line, here))
    assert snapshot(here / "Data") == before
    assert (here / "Data").stat().st_mtime_ns == listed, "a file came and went beside it"


@pytest.mark.parametrize("line", TRIES[:7])
def test_what_would_write_it_is_refused(line: str, here: Path) -> None:  # noqa: F811 - a fixture
    assert main(said(line, here)) in {2, 6}


def test_a_read_only_database_is_refused_before_anything_opens(here: Path) -> None:  # noqa: F811 - a fixture
    """Also where the file is not even there."""
    (here / "Data" / "flashpoint.sqlite").unlink()
    with (
        apps.opened(Selection(), timeout=1) as app,
        pytest.raises(ReadOnlyError),
        app.writer("flashpoint", "data set"),
    ):
        pass
