"""Truncated dumps of servers with a matching manifest: always reported, and never restored."""

from __future__ import annotations

import gzip

import pytest

from dbctl.config.sections import Selection
from dbctl.errors.backup import BackupCorruptError
from dbctl.services.backup.create import CreateBackup
from dbctl.services.backup.repository import Repository
from tests.crash.figures import choose_count, create_rng
from tests.services import larder_app, promptvault_app
from tests.services.backup.test_compression import replace_member
from tests.services.flashpoint_app import catch_error

#: Each kind of dump. It is truncated before compression; gzip itself detects other truncations.
DUMPS = [("postgresql", "custom"), ("postgresql", "plain"), ("mysql", "")]


@pytest.fixture(params=DUMPS, ids=lambda values: " ".join(map(str, values)).strip())
def dump(request, tmp_path):
    from dbctl.services.app.session import open_app

    engine, form = request.param
    with larder_app.open_pantry(engine, tmp_path / "app") as pantry:
        with open_app(Selection(config=str(pantry.path.with_name("dbctl.toml"))), timeout=5) as app:
            backup = CreateBackup(Repository(app), form=form).apply()
        yield pantry, backup


def replace_content(path, backup, content):
    """Replace the content of the only member, with a matching manifest."""
    has_size = backup.members[0].compress != "none"
    replace_member(path, backup, gzip.compress(content, 1), plain_bytes=len(content) if has_size else 0)


def test_truncated_dump_is_reported_and_not_restored(dump):
    pantry, backup = dump
    file = promptvault_app.find_backup_file(pantry.path, backup)
    content = gzip.decompress(file.read_bytes())
    before = pantry.content()
    rng = create_rng(f"cuts {backup.members[0].engine}")
    for share in rng.sample(range(100), choose_count(2, 100)):
        truncated = content[: len(content) * share // 100]
        replace_content(pantry.path, backup, truncated)
        codes = promptvault_app.list_codes(promptvault_app.verify_backups(pantry.path, backup.id))
        assert codes, f"truncated at {share} %"
        error = catch_error(BackupCorruptError, lambda: promptvault_app.apply_restore(pantry.path, backup.id))
        assert backup.id in str(error)
    assert pantry.content() == before
    assert pantry.databases() in ([pantry.own.path], {pantry.own.path: True})  # no test restore remains
    replace_content(pantry.path, backup, content)
    assert promptvault_app.list_codes(promptvault_app.verify_backups(pantry.path, backup.id)) == []
