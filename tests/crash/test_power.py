"""Backups and restores cut short by the power: what was not synced is lost, and what was reported done is not."""

from __future__ import annotations

import shutil

import pytest

from tests.crash import forge
from tests.crash.figures import chance, figure
from tests.crash.lossy import Disk, File, Folder, calls, keeping
from tests.services import flashpoint_app, promptvault_app

SHARES = (0.0, 0.0, 0.3, 0.5, 0.9, 1.0)  #: of what was not synced gets there: nothing most of all


@pytest.fixture(autouse=True)
def _faults():
    forge.want_faults()


@pytest.fixture(params=["wal", "delete"])
def path(request, tmp_path):
    path = promptvault_app.settle(tmp_path / "app", "deployed")
    flashpoint_app.run(path, f"pragma journal_mode = {request.param}")
    return path


class Cuts:
    """A command that was done, and the moments at which the power may go while it is, or after it."""

    def __init__(self, path, what, *words):
        self._path, self._what = path, what
        self._app, self._before = path.parent, path.parent.with_name("before")
        shutil.copytree(self._app, self._before)
        record = path.parent.with_name("record")
        status, self.told = forge.done(self._app, *words, record=record)
        assert status == 0, self.told
        self._calls = list(calls(record))
        assert {what for what, *_ in self._calls} >= {b"c", b"w", b"s"}

    def each(self, number):
        """Yield, ``number`` times, whether it was done when the power went; what is left is in the place of the app."""
        draw = chance(self._what)
        moments = [len(self._calls)] * (number // 4)  # done, and nothing more was synced
        moments += [draw.randrange(len(self._calls)) for _ in range(number - len(moments))]
        shutil.rmtree(self._app)
        shutil.copytree(self._before, self._app)
        disk, reached = Disk(self._app), 0
        for moment in sorted(moments):
            for one in self._calls[reached:moment]:
                disk.call(*one)
            reached = moment
            shutil.rmtree(self._app)
            disk.after(self._app, *(keeping(draw, draw.choice(SHARES)) for _ in ("content", "names")))
            print(f"after call {moment} of {len(self._calls)}")
            yield moment == len(self._calls)


@pytest.mark.parametrize("form", ["gzip", "none"])
def test_a_backup_that_was_reported_done_survives_the_loss_of_all_that_was_not_synced(path, form):
    before, kept = promptvault_app.content(path), promptvault_app.create(path)
    cuts = Cuts(path, f"power {form}", "backup", "create", "--compress", form)
    for done in cuts.each(figure(10, 625)):
        names = {one.id for one in promptvault_app.listed(path).page.items}
        assert kept.id in names
        assert not done or cuts.told["data"]["id"] in names
        assert set(promptvault_app.codes(promptvault_app.verified(path, deep=False))) <= {"backup-incomplete"}
        assert promptvault_app.content(path) == before


@pytest.mark.parametrize("gone", [False, True], ids=["there", "gone"])
def test_a_restore_that_was_reported_done_survives_too_and_a_cut_one_leaves_the_old_rows_or_the_new(
    path, gone
):
    new, kept = promptvault_app.content(path), promptvault_app.create(path)
    promptvault_app.spoil(path)
    old = promptvault_app.content(path)
    if gone:
        promptvault_app.lose(path)
    cuts = Cuts(path, f"power {gone}", "restore", "apply", kept.id, "--yes")
    for done in cuts.each(figure(10, 625)):
        if gone and not path.exists():
            assert not done
        else:
            assert flashpoint_app.rows(path, "pragma integrity_check") == [("ok",)]
            assert promptvault_app.content(path) in ([new] if done or gone else [old, new])
        names = {
            one.id
            for one in promptvault_app.listed(
                path,
            ).page.items
        }
        assert kept.id in names
        assert gone or not done or cuts.told["data"]["safety_backup"] in names
        assert set(promptvault_app.codes(promptvault_app.verified(path, deep=False))) <= {"backup-incomplete"}


def test_a_copy_beside_that_was_reported_done_survives_too_and_none_has_the_name_before_it_is_whole(path):
    held, kept = promptvault_app.content(path), promptvault_app.create(path)
    cuts = Cuts(path, "power copy", "restore", "apply", kept.id, "--to", "copy.db")
    copy = path.with_name("copy.db")
    for done in cuts.each(figure(10, 625)):
        assert copy.exists() or not done
        if copy.exists():
            assert promptvault_app.content(copy) == held
            assert flashpoint_app.rows(copy, "pragma integrity_check") == [("ok",)]
        assert promptvault_app.content(path) == held


def test_a_vacuum_leaves_every_row_whatever_was_synced(path):
    """SQLite shortens the file once its journal is gone: one that came back would lack the pages that were cut off."""
    promptvault_app.fatten(path)
    held = promptvault_app.content(path)
    cuts = Cuts(path, "power vacuum", "maintain", "vacuum", "--db", "user", "--yes")
    for _done in cuts.each(figure(24, 625)):
        assert flashpoint_app.rows(path, "pragma integrity_check") == [("ok",)]
        assert promptvault_app.content(path) == held


def test_a_change_that_was_reported_done_is_done_and_a_cut_one_is_none_or_whole(path):
    state = "select count(*) from users where is_active"
    active = flashpoint_app.rows(path, state)[0][0]
    cuts = Cuts(path, "power change", "users", "deactivate", "ann", "--yes")
    for done in cuts.each(figure(20, 625)):
        assert flashpoint_app.rows(path, "pragma integrity_check") == [("ok",)]
        assert flashpoint_app.rows(path, state)[0][0] in ([active - 1] if done else [active, active - 1])


def test_a_disk_that_loses_what_was_not_synced_is_one(tmp_path):
    """Else the tests above could not fail."""
    (tmp_path / "top").mkdir()
    (tmp_path / "top/old").write_bytes(b"old")
    disk, top = Disk(tmp_path / "top"), str(tmp_path / "top")

    def left(share, name):
        disk.after(tmp_path / name, keeping(chance(name), share))
        return {one.name: one.read_bytes() for one in (tmp_path / name).iterdir()}

    disk.call(b"c", f"{top}/new", "", 0, b"")
    disk.call(b"w", f"{top}/new", "", 0, b"text")
    disk.call(b"r", f"{top}/new", f"{top}/old", 0, b"")
    assert left(0.0, "nothing") == {"old": b"old"}
    assert left(1.0, "all") == {"old": b"text"}
    disk.call(b"s", top, "", 0, b"")
    assert left(0.0, "renamed too early") == {"old": b""}
    disk.call(b"s", f"{top}/old", "", 0, b"")
    assert left(0.0, "synced") == {"old": b"text"}
    assert isinstance(disk._found(top), Folder)
    assert isinstance(disk._found(f"{top}/old"), File)
