"""Backups and restores of which every call to the kernel that changes a file is once the last, or fails.

``N = 1, 2, 3 …`` until the command meets no fault any more, as SQLite tests itself. A slice draws some of the calls.
"""

from __future__ import annotations

import errno
import re
import shutil
import signal

import pytest

from tests.crash import forge
from tests.crash.figures import chance, figure
from tests.crash.lossy import calls
from tests.services import flashpoint_app, promptvault_app

#: How the failure of a call may be told.
EXPECTED = {
    "disk-full",
    "file-failed",
    "repository-failed",
    "file-unsynced",
    "restore-unfinished",
    "backup-failed",
    "unreachable",
    "scratch-failed",
}
KINDS = [
    ("kill", 0),
    ("kill half-way", 0),
    ("fail once", errno.ENOSPC),
    ("fail on", errno.ENOSPC),
    ("fail once", errno.EIO),
    ("fail on", errno.EIO),
]
MODES = ("wal", "delete")


class Tries:
    """A deployment, put back before each try; what a try finds wrong is kept, so that one run tells all of it."""

    def __init__(self, path, words):
        self.path, self.words, self._aside = path, words, path.parent.with_name("aside")
        shutil.copytree(path.parent, self._aside)
        self.found = []
        job = forge.begin(path.parent, *words, "-o", "json")
        assert forge.end(job)[0] == 0
        assert job.calls > 50, "the calls are not seen"
        self._last = job.calls + 1

    def each(self, what, sample, kinds=KINDS):
        """Yield what to try: every call of every kind and one behind the last, or a sample of them."""
        every = [(kind, at) for kind in kinds for at in range(1, self._last + 1)]
        for kind, at in chance(what).sample(every, figure(sample, len(every))):
            shutil.rmtree(self.path.parent)
            shutil.copytree(self._aside, self.path.parent)
            yield Try(self, kind, at)

    def over(self):
        assert not self.found, "\n".join(map(str, self.found))


class Try:
    """One run, in which one call falls."""

    def __init__(self, tries, kind, at):
        self._tries, self._what = tries, (*kind, at)
        action, error = kind
        self.killed = action.startswith("kill")
        job = forge.begin(tries.path.parent, *tries.words, "-o", "json", fault=(action, at, error))
        self.status, self.told = forge.end(job)
        self.well, self.lasting = self.status == 0, action == "fail on"
        if not job.fired:
            self.holds(self.well, "without a fault")
        elif self.killed:
            self.holds(self.status == -signal.SIGKILL, "killed")
        elif not self.well:
            self.holds(self.status in (1, 10), "how it ends")
            self._judge(self.told["error"], error)

    def _judge(self, failure, error):
        self.holds(failure["code"] in EXPECTED, "what it says")
        # SQLite does not tell why it cannot open, nor why it could not come to an end
        silent = "CANTOPEN" in failure["message"] or failure["code"] == "restore-unfinished"
        if error == errno.ENOSPC and not silent:
            self.holds(re.search("full|[Nn]o space", failure["message"]), "what it says of a full disk")

    def holds(self, fact, what):
        if not fact:
            self._tries.found.append((what, *self._what, self.status, self.told and self.told.get("error")))
            print(self._tries.found[-1])


def mended(one, path, kept):
    """Let the next runs show that nothing is in their way, and that they clear up."""
    status, told = forge.done(path.parent, "backup", "create")
    one.holds(status == 0, f"the next backup: {told}")
    with promptvault_app.pruning(path, last=1) as work:
        work.apply()
    root = promptvault_app.folder_of(path, kept).parent
    stays = {one.name for one in root.iterdir()} - {".dbctl-lock"}
    one.holds(
        stays == {one.id for one in promptvault_app.listed(path).page.items}, f"the next prune leaves {stays}"
    )
    left = [one.name for one in path.parent.iterdir() if "partial" in one.name]
    one.holds(not left, f"left: {left}")
    one.holds(not list(root.glob("*/.dbctl-incomplete")), "a mark stays")


@pytest.fixture(autouse=True)
def _faults():
    forge.want_faults()


@pytest.fixture(params=MODES)
def path(request, tmp_path):
    path = promptvault_app.settle(tmp_path / "app", "deployed")
    flashpoint_app.run(path, f"pragma journal_mode = {request.param}")
    return path


@pytest.mark.parametrize("form", ["gzip", "none"])
def test_whichever_call_of_a_backup_falls_nothing_is_lost_and_no_half_one_is_listed(path, form):
    before, kept = promptvault_app.content(path), promptvault_app.create(path)
    tries = Tries(path, ("backup", "create", "--compress", form))
    for one in tries.each(f"create {path}", 3):
        listed = promptvault_app.listed(path)
        names = {backup.id for backup in listed.page.items}
        wrong = set(promptvault_app.codes(promptvault_app.verified(path, deep=False)))
        one.holds(wrong <= {"backup-incomplete"}, f"verify: {wrong}")
        if one.well:
            one.holds(names == {kept.id, one.told["data"]["id"]}, f"listed: {names}")
        else:
            one.holds(kept.id in names, f"listed: {names}")
        if not (one.well or one.killed):
            one.holds(one.lasting or names == {kept.id}, f"listed: {names}")
            one.holds(one.lasting or not listed.incomplete, "a half one stays")
        one.holds(promptvault_app.content(path) == before, "the database changed")
        mended(one, path, kept)
    tries.over()


@pytest.mark.parametrize("gone", [False, True], ids=["there", "gone"])
def test_whichever_call_of_a_restore_falls_the_rows_are_the_old_or_the_new(path, gone):
    new, kept = promptvault_app.content(path), promptvault_app.create(path)
    promptvault_app.spoil(path)
    old = promptvault_app.content(path)
    if gone:
        promptvault_app.lose(path)
    tries = Tries(path, ("restore", "apply", kept.id, "--yes"))
    for one in tries.each(f"restore {gone} {path}", 3):
        if gone and not path.exists():
            one.holds(not one.well, "done, and there is none")
        else:
            one.holds(flashpoint_app.rows(path, "pragma integrity_check") == [("ok",)], "integrity")
            now = promptvault_app.content(path)
            if one.killed:
                one.holds(now == new or (now == old and not gone), "neither old nor new")
            else:
                unfinished = not one.well and one.told["error"]["code"] == "restore-unfinished"
                one.holds(now == (new if one.well or gone or unfinished else old), "not what it says")
                one.holds(
                    not unfinished or len(promptvault_app.listed(path).page.items) > 1,
                    "what it held is not kept",
                )
        wrong = set(promptvault_app.codes(promptvault_app.verified(path, deep=False)))
        one.holds(wrong <= {"backup-incomplete"}, f"verify: {wrong}")
        status, told = forge.done(path.parent, *tries.words)
        one.holds(status == 0 and promptvault_app.content(path) == new, f"the next restore: {told}")
        mended(one, path, kept)
    tries.over()


def test_a_disk_that_tells_only_when_it_is_synced_that_it_is_full_is_named_as_one_and_nothing_was_changed(
    tmp_path,
):
    path = promptvault_app.settle(tmp_path / "app", "deployed")
    flashpoint_app.run(path, "pragma journal_mode = delete")
    words = ("users", "update", "ann", "--email")
    never = ("fail once", 1 << 30, errno.ENOSPC)
    job = forge.begin(path.parent, *words, "first@example.org", below=path, fault=never)
    assert forge.end(job)[0] == 0
    before = flashpoint_app.content(path)
    status, told = forge.done(
        path.parent, *words, "other@example.org", below=path, fault=("fail once", job.calls, errno.ENOSPC)
    )
    assert (status, told["error"]["code"]) == (1, "file-failed")
    assert "SQLITE_IOERR_FSYNC" in told["error"]["message"]
    assert "the disk fails or is full" in told["error"]["message"]
    assert flashpoint_app.content(path) == before


SPOIL = "update users set email = username || '@spoiled.example'"


def unsynced(path, code, *words):
    """Run a command again and again, and let the sync fail by which its journal is gone for good, until it says so."""
    kept, record = promptvault_app.create(path), path.parent.with_name("record")
    words = [word.format(kept=kept.id) for word in words]
    flashpoint_app.run(path, SPOIL)
    job = forge.begin(path.parent, *words, record=record)
    assert forge.end(job)[0] == 0
    journal, every = f"{path}-journal", list(calls(record))
    gone = min(at for at, (what, name, *_) in enumerate(every, 1) if (what, name) == (b"u", journal))
    for at in range(gone, gone + 16):  # those that do nothing are counted, and not recorded
        flashpoint_app.run(path, SPOIL)
        before = {one.id for one in promptvault_app.listed(path).page.items}
        told = forge.done(path.parent, *words, fault=("fail once", at, errno.EIO))[1]
        if told["error"] and told["error"]["code"] == code:
            assert "SQLITE_IOERR_DIR_FSYNC" in told["error"]["message"] or code == "restore-unfinished"
            return before
    pytest.fail(f"no call made it {code}")


@pytest.fixture
def unlogged(tmp_path):
    """Without a -wal a change is done once its journal is gone; where that cannot be synced, nobody takes it back."""
    path = promptvault_app.settle(tmp_path / "app", "deployed")
    flashpoint_app.run(path, "pragma journal_mode = delete")
    return path


def test_a_change_that_is_done_and_may_not_outlast_the_power_is_not_told_as_none(unlogged):
    unsynced(unlogged, "file-unsynced", "users", "update", "ann", "--email", "new@example.org")
    assert flashpoint_app.rows(unlogged, "select email from users where username = 'ann'") == [
        ("new@example.org",)
    ]


@pytest.mark.parametrize(
    ("more", "code"),
    [((), "restore-unfinished"), (("--table", "users", "--merge", "replace"), "file-unsynced")],
    ids=["database", "table"],
)
def test_what_a_restore_replaced_is_kept_where_its_end_could_not_be_synced(unlogged, more, code):
    emails = flashpoint_app.rows(unlogged, "select email from users")
    before = unsynced(unlogged, code, "restore", "apply", "{kept}", *more, "--yes")
    assert flashpoint_app.rows(unlogged, "select email from users") == emails
    (safety,) = [one for one in promptvault_app.listed(unlogged).page.items if one.id not in before]
    assert safety.kind == "safety"
    assert promptvault_app.codes(promptvault_app.verified(unlogged, safety.id)) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("commit-unsynced", ("users", "update", "ann", "--email", "new@example.org")),
        ("restore-unfinished", ("restore", "apply", "{kept}", "--yes")),
        (
            "commit-unsynced",
            ("restore", "apply", "{kept}", "--table", "users", "--merge", "replace", "--yes"),
        ),
    ],
    ids=["change", "database", "table"],
)
def test_what_the_disk_did_not_confirm_and_may_come_back_out_of_the_wal_is_not_told_as_undone(
    tmp_path, code, words
):
    path, record = promptvault_app.settle(tmp_path / "app", "deployed"), tmp_path / "record"
    flashpoint_app.run(path, "pragma journal_mode = wal")
    kept = promptvault_app.create(path)
    words = [word.format(kept=kept.id) for word in words]
    flashpoint_app.run(path, SPOIL)
    before, aside = emails(path), shutil.copytree(path.parent, tmp_path / "aside")
    assert forge.end(forge.begin(path.parent, *words, record=record))[0] == 0
    synced = [(at, name) for at, (what, name, *_) in enumerate(calls(record), 1) if what == b"s"]
    moved = next(
        at for at, name in synced if name == str(path)
    )  # by a checkpoint, which syncs the -wal once more
    *_, begun, _ = (at for at, name in synced if name == f"{path}-wal" and at < moved)
    for at in range(begun, begun + 16):  # those that do nothing are counted, and not recorded
        shutil.rmtree(path.parent)
        shutil.copytree(aside, path.parent)
        status, answer = forge.done(path.parent, *words, fault=("fail on", at, errno.EIO))
        changed = emails(path) != before
        if status == 0:
            assert changed
            continue
        assert answer["error"]["code"] == code or not changed
        if changed:
            kept_too = [one for one in promptvault_app.listed(path).page.items if one.kind == "safety"]
            assert kept_too or words[0] != "restore"
            return
    pytest.fail("nothing came back")


def test_a_new_file_of_which_nothing_stays_is_not_told_as_written(tmp_path):
    path, record = promptvault_app.settle(tmp_path / "app", "deployed"), tmp_path / "record"
    words = ("restore", "apply", promptvault_app.create(path).id, "--yes")
    promptvault_app.lose(path)
    aside = shutil.copytree(path.parent, tmp_path / "aside")
    assert forge.end(forge.begin(path.parent, *words, record=record))[0] == 0
    journals = [
        at
        for at, (what, name, *_) in enumerate(calls(record), 1)
        if what == b"u" and name.endswith("-journal")
    ]
    told = []
    for at in range(journals[0], journals[0] + 16):  # those that do nothing are counted, and not recorded
        shutil.rmtree(path.parent)
        shutil.copytree(aside, path.parent)
        status, answer = forge.done(path.parent, *words, fault=("fail once", at, errno.ENOSPC))
        assert path.exists() == (status == 0)
        if status and "SQLITE_IOERR_DIR_FSYNC" in answer["error"]["message"]:
            told.append(answer["error"]["code"])
    assert told
    assert set(told) == {"file-failed"}


def emails(path):
    return flashpoint_app.rows(path, "select email from users order by id")
