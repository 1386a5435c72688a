"""Backups and restores with a full disk at any write: nothing is lost or incomplete, and the error is reported.

A limit on the size of files (``RLIMIT_FSIZE``) simulates the full disk: it requires no privileges, and fails at an exact
byte.
"""

from __future__ import annotations

import os
import resource
import sys
import traceback

import pytest

from dbctl.engines.sqlite.restore import SQLiteRestoreTarget
from dbctl.errors.base import DbctlError
from dbctl.files import mounts
from tests.crash.figures import choose_count, create_rng
from tests.services import flashpoint_app, promptvault_app


@pytest.fixture(params=["wal", "delete"])
def path(request, tmp_path):
    path = promptvault_app.create_app(tmp_path / "app", "deployed")
    flashpoint_app.run_statements(path, f"pragma journal_mode = {request.param}")
    return path


def run_with_file_size_limit(size, action):
    """Run ``action`` in a process with a file size limit of ``size`` bytes; return whether it succeeded, and its failure."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        status, failure = 9, ""
        try:
            sys.dont_write_bytecode = True  # the limit would truncate it
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            mounts.require_space = lambda *_words: None
            SQLiteRestoreTarget.require_space = lambda *_words: None
            action()
            status = 0
        except DbctlError as error:
            status, failure = 1, f"{type(error).__name__}: {error} | {error.hint}"
        except BaseException:  # noqa: BLE001 - reported to the parent process, which fails
            failure = traceback.format_exc()
        finally:
            os.write(write, failure.encode())
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        failure = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 1), failure
    return status == 0, failure


def sample_sizes(path):
    """Yield sizes at which one write after the other fails, up to one at which all succeed."""
    size = path.stat().st_size
    sizes = [1, 100, 512, 1000, 4096, 5000, 20_000, size // 3, size // 2, size - 4096, size - 1]
    sizes += [size, size + 1]
    yield from (0, *sorted(create_rng("limits").sample(sizes, choose_count(6, len(sizes)))), 3 * size)


@pytest.mark.parametrize("left_out", [[], ["user_game_plays"]])
def test_trap_backup_on_full_disk_leaves_no_partial_file(path, left_out):
    promptvault_app.leave_out_rows(path, *left_out)
    first = promptvault_app.create_app_backup(path)
    before = flashpoint_app.read_all_rows(path)
    results = []
    for size in sample_sizes(path):
        succeeded, error = run_with_file_size_limit(size, lambda: promptvault_app.create_app_backup(path))
        results.append(succeeded)
        assert succeeded or "|" in error
        listing = promptvault_app.list_all_backups(path)
        assert first.id in [backup.id for backup in listing.page.items]
        assert len(listing.page.items) == 1 + sum(results)
        assert not listing.incomplete
        assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
        assert flashpoint_app.read_all_rows(path) == before
    assert (results[0], results[-1]) == (False, True)


def test_restore_on_full_disk_leaves_old_rows(path):
    new = promptvault_app.read_content(path)
    promptvault_app.create_app_backup(path)
    promptvault_app.change_data(path)
    old = promptvault_app.read_content(path)
    results = []
    for size in sample_sizes(path):
        succeeded, error = run_with_file_size_limit(size, lambda: promptvault_app.apply_restore(path))
        results.append(succeeded)
        assert promptvault_app.read_content(path) == (new if succeeded else old), (size, error)
        assert flashpoint_app.query_rows(path, "pragma integrity_check") == [("ok",)]
        assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
        if succeeded:
            promptvault_app.undo_restore(path)
            assert promptvault_app.read_content(path) == old
    assert (results[0], results[-1]) == (False, True)


def test_restore_of_missing_database_on_full_disk_leaves_no_file(path):
    new = promptvault_app.read_content(path)
    promptvault_app.create_app_backup(path)
    path.unlink()
    for size in sample_sizes(
        promptvault_app.decompress_backup(path, promptvault_app.list_all_backups(path).page.items[0])
    ):
        succeeded, error = run_with_file_size_limit(size, lambda: promptvault_app.apply_restore(path))
        assert path.exists() == succeeded, error
        assert {child.name for child in path.parent.glob("*user.db*")} <= {"user.db", ".user.db.dbctl-lock"}
        if succeeded:
            assert promptvault_app.read_content(path) == new
            path.unlink()
