"""Backups with changed files: every change is reported, and nothing is restored from them."""

from __future__ import annotations

import pytest

from dbctl.errors.backup import BackupCorruptError, BackupMissingError
from tests.crash.figures import choose_count, create_rng
from tests.services import flashpoint_app, promptvault_app
from tests.services.promptvault_app import find_backup_file, find_backup_folder

PAGE = 4096
COMPRESSIONS = ("none", "gzip", "zstd")


def flip_bit(rng, content):
    position = rng.randrange(len(content))
    return content[:position] + bytes([content[position] ^ 1 << rng.randrange(8)]) + content[position + 1 :]


def truncate(rng, content):
    return content[: rng.randrange(len(content))]


def zero_sector(rng, content):
    position = rng.randrange(0, len(content), 512)
    return content[:position] + bytes(len(content[position : position + 512])) + content[position + 512 :]


def swap_pages(rng, content):
    first, second = sorted(rng.sample(range(max(2, len(content) // PAGE)), 2))
    pages = [content[start : start + PAGE] for start in range(0, len(content), PAGE)] + [b""]
    pages[first], pages[second] = pages[second], pages[first]
    return b"".join(pages)


def append_bytes(rng, content):
    return content + rng.randbytes(rng.randrange(1, 100))


CHANGES = (flip_bit, flip_bit, flip_bit, flip_bit, truncate, zero_sector, swap_pages, append_bytes)


@pytest.fixture
def path(tmp_path):
    path = promptvault_app.create_app(tmp_path / "app", "deployed")
    flashpoint_app.run_statements(path, "pragma journal_mode = delete")
    return path


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_changed_backup_is_reported_and_not_restored(path, compression):
    backup = promptvault_app.create_app_backup(path, compress=compression)
    promptvault_app.change_data(path)
    before, rng = path.read_bytes(), create_rng(f"changed {compression}")
    files = [find_backup_file(path, backup), find_backup_folder(path, backup) / "manifest.json"]
    contents = {file: file.read_bytes() for file in files}
    reported_count = change_count = 0
    while change_count < choose_count(100, 3400):
        file = files[rng.random() < 0.25]
        change = rng.choice(CHANGES)
        file.write_bytes(content := change(rng, contents[file]))
        if content == contents[file]:
            continue  # the changed page or sector has the same content
        change_count += 1
        reported_codes = promptvault_app.list_codes(
            promptvault_app.verify_backups(path, deep=rng.random() < 0.05)
        )
        reported_count += bool(reported_codes)
        assert reported_codes, (file.name, change.__name__, f"change {change_count}")
        with pytest.raises((BackupCorruptError, BackupMissingError)):
            promptvault_app.apply_restore(path, backup.id)
        assert path.read_bytes() == before
        file.write_bytes(contents[file])
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
    assert [entry.id for entry in promptvault_app.list_all_backups(path).page.items] == [
        backup.id
    ]  # no restore went far enough to create a safety backup
    print(f"{reported_count} of {change_count} reported")
