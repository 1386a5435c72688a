"""Backups and restores whose every write may be the one that no longer fits: nothing lost, nothing half, and said.

A limit on the size of files (``RLIMIT_FSIZE``) stands for the full disk: it needs no rights, and fails at an exact byte.
"""

from __future__ import annotations

import os
import resource
import traceback

import pytest

from dbctl.engines import registry
from dbctl.errors import DbctlError
from dbctl.stores import local
from tests.crash.figures import chance, figure
from tests.services import flashpoint_app, promptvault_app


@pytest.fixture(params=["wal", "delete"])
def path(request, tmp_path):
    path = promptvault_app.settle(tmp_path / "app", "deployed")
    flashpoint_app.run(path, f"pragma journal_mode = {request.param}")
    return path


def limited(size, work):
    """Do ``work`` in a process that can write no file beyond ``size`` bytes; return how it ended, and its failure."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        status, told = 9, ""
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            local.want_room = lambda *_words: None
            registry.want_room = lambda *_words: None
            work()
            status = 0
        except DbctlError as error:
            status, told = 1, f"{type(error).__name__}: {error} | {error.hint}"
        except BaseException:  # noqa: BLE001 - it goes to the parent, which fails
            told = traceback.format_exc()
        finally:
            os.write(write, told.encode())
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 1), told
    return status == 0, told


def limits(path):
    """Yield sizes at which one write after the other fails, up to one at which none does."""
    whole = path.stat().st_size
    between = [1, 100, 512, 1000, 4096, 5000, 20_000, whole // 3, whole // 2, whole - 4096, whole - 1]
    between += [whole, whole + 1]
    yield from (0, *sorted(chance("limits").sample(between, figure(6, len(between)))), 3 * whole)


def test_trap_a_full_disk_leaves_a_part_that_opens_as_an_empty_database_so_nothing_of_it_stays(path):
    first = promptvault_app.create(path)
    before = flashpoint_app.content(path)
    ended = []
    for size in limits(path):
        well, told = limited(size, lambda: promptvault_app.create(path))
        ended.append(well)
        assert well or "|" in told
        listed = promptvault_app.listed(path)
        assert first.id in [one.id for one in listed.page.items]
        assert len(listed.page.items) == 1 + sum(ended)
        assert not listed.incomplete
        assert promptvault_app.codes(promptvault_app.verified(path)) == []
        assert flashpoint_app.content(path) == before
    assert (ended[0], ended[-1]) == (False, True)


def test_a_restore_that_does_not_fit_leaves_the_old_rows_and_a_working_database(path):
    new = promptvault_app.content(path)
    promptvault_app.create(path)
    promptvault_app.spoil(path)
    old = promptvault_app.content(path)
    ended = []
    for size in limits(path):
        well, told = limited(size, lambda: promptvault_app.apply(path))
        ended.append(well)
        assert promptvault_app.content(path) == (new if well else old), (size, told)
        assert flashpoint_app.rows(path, "pragma integrity_check") == [("ok",)]
        assert promptvault_app.codes(promptvault_app.verified(path)) == []
        if well:
            promptvault_app.undo(path)
            assert promptvault_app.content(path) == old
    assert (ended[0], ended[-1]) == (False, True)


def test_a_missing_database_that_does_not_fit_stays_missing_and_leaves_no_part(path):
    new = promptvault_app.content(path)
    promptvault_app.create(path)
    path.unlink()
    for size in limits(promptvault_app.plain_of(path, promptvault_app.listed(path).page.items[0])):
        well, told = limited(size, lambda: promptvault_app.apply(path))
        assert path.exists() == well, told
        assert {one.name for one in path.parent.glob("*user.db*")} <= {"user.db", ".user.db.dbctl-lock"}
        if well:
            assert promptvault_app.content(path) == new
            path.unlink()
