"""``--format plain --compress none`` writes text, which is verified and restored like a compressed dump."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.services import larder_app
from tests.services.promptvault_app import apply_restore, list_codes, verify_backups


@pytest.fixture(params=["postgresql", "mysql"])
def pantry(request, tmp_path):
    with larder_app.open_pantry(request.param, tmp_path / "app") as app:
        yield app


def create(pantry, answer):
    command = ["--config", str(pantry.path.with_name("dbctl.toml")), "backup", "create"]
    answer(*command, "--format", "plain", "--compress", "none")
    return answer(*command[:2], "backup", "show", "latest")["data"]


def test_plain_dump_is_text(pantry, answer):
    before = pantry.content()
    (member,) = create(pantry, answer)["members"]
    assert member["file"].endswith(".sql")
    (file,) = pantry.folder.rglob(member["file"])
    assert file.read_bytes().startswith(b"--") or file.read_bytes().startswith(b"/*")
    pantry.change_data()
    apply_restore(pantry.path)
    assert pantry.content() == before
    assert list_codes(verify_backups(pantry.path)) == []


def test_plain_dump_next_to_a_file(pantry, answer):
    """Several databases: none is compressed."""
    with closing(sqlite3.connect(pantry.folder / "notes.db")) as notes, notes:
        notes.execute("create table notes (x)")
    engine = pantry.engine
    (pantry.folder / "mixed.toml").write_text(
        f'schema = "dbctl.profile/1"\nname = "mixed"\ntitle = "Mixed"\n[databases.main]\nengines = ["{engine}"]\n'
        'needs = ["members"]\n[databases.notes]\nengines = ["sqlite"]\nneeds = ["notes"]\n'
    )
    (pantry.folder / "dbctl.toml").write_text(
        f'[apps.mixed]\nprofile = "mixed.toml"\n[apps.mixed.databases]\nmain = "{pantry.url}"\nnotes = "notes.db"\n'
        '[apps.mixed.backup]\nrepository = "backups"\n'
    )
    files = {member["database"]: member["file"] for member in create(pantry, answer)["members"]}
    assert files["main"].endswith(".sql")
    assert files["notes"].endswith(".db")
