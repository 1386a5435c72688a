"""Backups and restores in which each call that changes a file is once the last, or fails.

``N = 1, 2, 3 …`` until the command runs without a fault, as in SQLite's tests. A sample draws some of the calls.
"""

from __future__ import annotations

import errno
import re
import shutil
import signal

import pytest

from tests.crash import forge
from tests.crash.figures import choose_count, create_rng
from tests.crash.lossy import read_calls
from tests.services import flashpoint_app, promptvault_app

#: Error codes for the failure of a call.
EXPECTED_CODES = {
    "disk-full",
    "file-failed",
    "repository-failed",
    "file-unsynced",
    "restore-unfinished",
    "backup-failed",
    "unreachable",
    "temp-space-failed",
}
#: Errors of backups whose base failed.
CONSEQUENCES = {"base-missing", "rekey-refused"}
KINDS = [
    ("kill", 0),
    ("kill half-way", 0),
    ("fail once", errno.ENOSPC),
    ("fail on", errno.ENOSPC),
    ("fail once", errno.EIO),
    ("fail on", errno.EIO),
]
MODES = ("wal", "delete")


class FaultRuns:
    """A deployment that is reset before each run; all problems are collected, so that one run reports them together."""

    def __init__(self, path, arguments, **options):
        """Count the calls of a command; ``options`` are those of ``forge.start``."""
        self.path, self.words, self._copy = path, arguments, path.parent.with_name("aside")
        self.options = options
        shutil.copytree(path.parent, self._copy)
        self.problems = []
        job = forge.start(path.parent, *arguments, "-o", "json", **options)
        assert forge.wait_for_result(job)[0] == 0
        assert job.calls > 50, "the calls are not counted"
        self._call_count = job.calls + 1

    def sample_faults(self, name, sample, kinds=KINDS):
        """Yield faults: every call with every kind of fault, and one after the last call, or a sample of them."""
        faults = [(kind, call) for kind in kinds for call in range(1, self._call_count + 1)]
        for kind, call in create_rng(name).sample(faults, choose_count(sample, len(faults))):
            shutil.rmtree(self.path.parent)
            shutil.copytree(self._copy, self.path.parent)
            yield FaultRun(self, kind, call)

    def assert_no_problems(self):
        assert not self.problems, "\n".join(map(str, self.problems))


class FaultRun:
    """One run with a fault at one call."""

    def __init__(self, runs, kind, call):
        self._runs, self._description = runs, (*kind, call)
        action, error = kind
        self.is_killed = action.startswith("kill")
        fault = (action, call, error)
        job = forge.start(runs.path.parent, *runs.words, "-o", "json", fault=fault, **runs.options)
        self.status, self.result = forge.wait_for_result(job)
        self.succeeded, self.is_permanent = self.status == 0, action == "fail on"
        if not job.fault_fired:
            self.check(self.succeeded, "fails without a fault")
        elif self.is_killed:
            self.check(self.status == -signal.SIGKILL, "not killed")
        elif not self.succeeded:
            # Without an error, each backup of a copy has its own; that of a difference may be the one of its base.
            failure = self.result["error"]
            failures = [failure] if failure else self.result["data"]["failed"]
            self.check(self.status in (1, 10) or (self.status == 12 and not failure), "unexpected exit code")
            causes = [reported for reported in failures if reported["code"] not in CONSEQUENCES]
            self.check(causes, "no cause")
            for reported in causes:
                self._check_error(reported, error)

    def _check_error(self, failure, error):
        self.check(failure["code"] in EXPECTED_CODES, f"unexpected error code {failure['code']}")
        # SQLite reports no reason if it cannot open a file or finish a transaction
        lacks_reason = "CANTOPEN" in failure["message"] or failure["code"] == "restore-unfinished"
        if error == errno.ENOSPC and not lacks_reason:
            self.check(re.search("full|[Nn]o space", failure["message"]), "no message about the full disk")

    def check(self, is_true, problem):
        if not is_true:
            self._runs.problems.append(
                (problem, *self._description, self.status, self.result and self.result.get("error"))
            )
            print(self._runs.problems[-1])


def check_next_runs(run, path, backup):
    """Check that the next commands succeed and delete leftovers."""
    status, result = forge.run(path.parent, "backup", "create")
    run.check(status == 0, f"the next backup: {result}")
    with promptvault_app.open_prune(path, last=1) as work:
        work.apply()
    root = promptvault_app.find_backup_folder(path, backup).parent
    remaining = {child.name for child in root.iterdir()} - {".dbctl-lock"}
    run.check(
        remaining == {backup.id for backup in promptvault_app.list_all_backups(path).page.items},
        f"the next prune leaves {remaining}",
    )
    leftovers = [child.name for child in path.parent.iterdir() if "partial" in child.name]
    run.check(not leftovers, f"leftovers: {leftovers}")
    run.check(not list(root.glob("*/.dbctl-incomplete")), "a mark remains")


@pytest.fixture(autouse=True)
def _faults():
    forge.require_faults()


@pytest.fixture(params=MODES)
def path(request, tmp_path):
    path = promptvault_app.create_app(tmp_path / "app", "deployed")
    flashpoint_app.run_statements(path, f"pragma journal_mode = {request.param}")
    return path


@pytest.mark.parametrize("compression", ["gzip", "none", "none without rows"])
def test_backup_with_failing_call_loses_nothing(path, compression):
    compression, _, without = compression.partition(" ")
    if without:
        promptvault_app.leave_out_rows(path, "user_game_plays")
    before, earlier = promptvault_app.read_content(path), promptvault_app.create_app_backup(path)
    runs = FaultRuns(path, ("backup", "create", "--compress", compression))
    for run in runs.sample_faults(f"create {path}", 3):
        listing = promptvault_app.list_all_backups(path)
        names = {backup.id for backup in listing.page.items}
        codes = set(promptvault_app.list_codes(promptvault_app.verify_backups(path, deep=False)))
        run.check(codes <= {"backup-incomplete"}, f"verify: {codes}")
        if run.succeeded:
            run.check(names == {earlier.id, run.result["data"]["id"]}, f"listed: {names}")
        else:
            run.check(earlier.id in names, f"listed: {names}")
        if not (run.succeeded or run.is_killed):
            run.check(run.is_permanent or names == {earlier.id}, f"listed: {names}")
            run.check(run.is_permanent or not listing.incomplete, "an incomplete backup remains")
        run.check(promptvault_app.read_content(path) == before, "the database changed")
        check_next_runs(run, path, earlier)
    runs.assert_no_problems()


@pytest.mark.parametrize("is_missing", [False, True], ids=["existing", "missing"])
def test_restore_with_failing_call_leaves_old_or_new_rows(path, is_missing):
    new, backup = promptvault_app.read_content(path), promptvault_app.create_app_backup(path)
    promptvault_app.change_data(path)
    old = promptvault_app.read_content(path)
    if is_missing:
        promptvault_app.delete_database(path)
    runs = FaultRuns(path, ("restore", "apply", backup.id, "--yes"))
    for run in runs.sample_faults(f"restore {is_missing} {path}", 3):
        if is_missing and not path.exists():
            run.check(not run.succeeded, "succeeded, but the database is missing")
        else:
            run.check(flashpoint_app.query_rows(path, "pragma integrity_check") == [("ok",)], "integrity")
            now = promptvault_app.read_content(path)
            if run.is_killed:
                run.check(now == new or (now == old and not is_missing), "neither old nor new rows")
            else:
                unfinished = not run.succeeded and run.result["error"]["code"] == "restore-unfinished"
                run.check(
                    now == (new if run.succeeded or is_missing or unfinished else old),
                    "rows do not match the result",
                )
                run.check(
                    not unfinished or len(promptvault_app.list_all_backups(path).page.items) > 1,
                    "the previous content is not retained",
                )
        codes = set(promptvault_app.list_codes(promptvault_app.verify_backups(path, deep=False)))
        run.check(codes <= {"backup-incomplete"}, f"verify: {codes}")
        status, result = forge.run(path.parent, *runs.words)
        run.check(status == 0 and promptvault_app.read_content(path) == new, f"the next restore: {result}")
        check_next_runs(run, path, backup)
    runs.assert_no_problems()


def test_failed_fsync_is_reported_and_rolled_back(tmp_path):
    path = promptvault_app.create_app(tmp_path / "app", "deployed")
    flashpoint_app.run_statements(path, "pragma journal_mode = delete")
    arguments = ("users", "update", "ann", "--email")
    no_fault = ("fail once", 1 << 30, errno.ENOSPC)
    job = forge.start(path.parent, *arguments, "first@example.org", below=path, fault=no_fault)
    assert forge.wait_for_result(job)[0] == 0
    before = flashpoint_app.read_all_rows(path)
    status, result = forge.run(
        path.parent, *arguments, "other@example.org", below=path, fault=("fail once", job.calls, errno.ENOSPC)
    )
    assert (status, result["error"]["code"]) == (1, "file-failed")
    assert "SQLITE_IOERR_FSYNC" in result["error"]["message"]
    assert flashpoint_app.read_all_rows(path) == before


CHANGE_EMAILS = "update users set email = username || '@spoiled.example'"


def run_until_sync_fails(path, code, *arguments):
    """Run a command repeatedly, failing the sync after the deletion of its journal, until it returns ``code``."""
    backup, record = promptvault_app.create_app_backup(path), path.parent.with_name("record")
    arguments = [word.format(kept=backup.id) for word in arguments]
    flashpoint_app.run_statements(path, CHANGE_EMAILS)
    job = forge.start(path.parent, *arguments, record=record)
    assert forge.wait_for_result(job)[0] == 0
    journal, recorded_calls = f"{path}-journal", list(read_calls(record))
    first_call = min(
        call
        for call, (operation, name, *_) in enumerate(recorded_calls, 1)
        if (operation, name) == (b"u", journal)
    )
    for call in range(first_call, first_call + 16):  # calls without effect are counted, but not recorded
        flashpoint_app.run_statements(path, CHANGE_EMAILS)
        before = {entry.id for entry in promptvault_app.list_all_backups(path).page.items}
        result = forge.run(path.parent, *arguments, fault=("fail once", call, errno.EIO))[1]
        if result["error"] and result["error"]["code"] == code:
            assert "SQLITE_IOERR_DIR_FSYNC" in result["error"]["message"] or code == "restore-unfinished"
            return before
    pytest.fail(f"no call caused {code}")


@pytest.fixture
def delete_mode_path(tmp_path):
    """Without WAL a change is committed by deleting the journal; if that cannot be synced, it is not rolled back."""
    path = promptvault_app.create_app(tmp_path / "app", "deployed")
    flashpoint_app.run_statements(path, "pragma journal_mode = delete")
    return path


def test_committed_but_unsynced_change_is_reported(delete_mode_path):
    run_until_sync_fails(
        delete_mode_path, "file-unsynced", "users", "update", "ann", "--email", "new@example.org"
    )
    assert flashpoint_app.query_rows(delete_mode_path, "select email from users where username = 'ann'") == [
        ("new@example.org",)
    ]


@pytest.mark.parametrize(
    ("options", "code"),
    [((), "restore-unfinished"), (("--table", "users", "--merge", "replace"), "file-unsynced")],
    ids=["database", "table"],
)
def test_unsynced_restore_retains_safety_backup(delete_mode_path, options, code):
    emails = flashpoint_app.query_rows(delete_mode_path, "select email from users")
    before = run_until_sync_fails(delete_mode_path, code, "restore", "apply", "{kept}", *options, "--yes")
    assert flashpoint_app.query_rows(delete_mode_path, "select email from users") == emails
    (safety,) = [
        backup
        for backup in promptvault_app.list_all_backups(delete_mode_path).page.items
        if backup.id not in before
    ]
    assert safety.kind == "safety"
    assert promptvault_app.list_codes(promptvault_app.verify_backups(delete_mode_path, safety.id)) == []


@pytest.mark.parametrize(
    ("code", "arguments"),
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
def test_unconfirmed_wal_commit_is_not_reported_as_undone(tmp_path, code, arguments):
    path, record = promptvault_app.create_app(tmp_path / "app", "deployed"), tmp_path / "record"
    flashpoint_app.run_statements(path, "pragma journal_mode = wal")
    backup = promptvault_app.create_app_backup(path)
    arguments = [word.format(kept=backup.id) for word in arguments]
    flashpoint_app.run_statements(path, CHANGE_EMAILS)
    before, copy = read_emails(path), shutil.copytree(path.parent, tmp_path / "aside")
    assert forge.wait_for_result(forge.start(path.parent, *arguments, record=record))[0] == 0
    sync_calls = [
        (call, name) for call, (operation, name, *_) in enumerate(read_calls(record), 1) if operation == b"s"
    ]
    checkpoint_call = next(
        call for call, name in sync_calls if name == str(path)
    )  # which syncs the -wal again
    *_, first_call, _ = (
        call for call, name in sync_calls if name == f"{path}-wal" and call < checkpoint_call
    )
    for call in range(first_call, first_call + 16):  # calls without effect are counted, but not recorded
        shutil.rmtree(path.parent)
        shutil.copytree(copy, path.parent)
        status, result = forge.run(path.parent, *arguments, fault=("fail on", call, errno.EIO))
        changed = read_emails(path) != before
        if status == 0:
            assert changed
            continue
        assert result["error"]["code"] == code or not changed
        if changed:
            safety_backups = [
                entry for entry in promptvault_app.list_all_backups(path).page.items if entry.kind == "safety"
            ]
            assert safety_backups or arguments[0] != "restore"
            return
    pytest.fail("no change reappeared")


def test_failed_new_file_is_not_reported_as_written(tmp_path):
    path, record = promptvault_app.create_app(tmp_path / "app", "deployed"), tmp_path / "record"
    arguments = ("restore", "apply", promptvault_app.create_app_backup(path).id, "--yes")
    promptvault_app.delete_database(path)
    copy = shutil.copytree(path.parent, tmp_path / "aside")
    assert forge.wait_for_result(forge.start(path.parent, *arguments, record=record))[0] == 0
    journals = [
        call
        for call, (operation, name, *_) in enumerate(read_calls(record), 1)
        if operation == b"u" and name.endswith("-journal")
    ]
    codes = []
    for call in range(journals[0], journals[0] + 16):  # calls without effect are counted, but not recorded
        shutil.rmtree(path.parent)
        shutil.copytree(copy, path.parent)
        status, result = forge.run(path.parent, *arguments, fault=("fail once", call, errno.ENOSPC))
        assert path.exists() == (status == 0)
        if status and "SQLITE_IOERR_DIR_FSYNC" in result["error"]["message"]:
            codes.append(result["error"]["code"])
    assert codes
    assert set(codes) == {"file-failed"}


def test_new_file_whose_name_is_not_synced_is_reported_as_written(tmp_path):
    path, record = promptvault_app.create_app(tmp_path / "app", "deployed"), tmp_path / "record"
    backup = promptvault_app.create_app_backup(path)
    copy = path.with_name("copy.sqlite")
    arguments = ("restore", "apply", backup.id, "--to", copy)
    assert forge.wait_for_result(forge.start(path.parent, *arguments, record=record))[0] == 0
    (rename_call,) = (
        call
        for call, (operation, *names) in enumerate(read_calls(record), 1)
        if operation == b"r" and str(copy) in names
    )
    codes = set()
    for call in range(rename_call, rename_call + 16):  # calls without effect are counted, but not recorded
        copy.unlink(missing_ok=True)
        status, result = forge.run(path.parent, *arguments, fault=("fail once", call, errno.EIO))
        code = result["error"] and result["error"]["code"]
        assert copy.exists() == (status == 0 or code == "file-unsynced"), result
        codes.add(code)
    assert "file-unsynced" in codes


def read_emails(path):
    return flashpoint_app.query_rows(path, "select email from users order by id")
