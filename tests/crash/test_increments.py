"""Incremental backups that are killed or interrupted: every earlier backup stays valid, and no difference loses its base."""

from __future__ import annotations

import errno
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.crash import forge
from tests.crash.figures import choose_count, create_rng
from tests.crash.forge import KillTimer, wait_for_result
from tests.crash.test_every_call import FaultRuns
from tests.services import promptvault_app
from tests.services.flashpoint_app import run_statements
from tests.services.sessions.test_cleanup import add_many_plays

#: A killed dbctl process does not end a running rdiff, which ends when it writes to the closed pipe.
RDIFF_SECONDS = 20
SIGNALS = [signal.SIGKILL, signal.SIGTERM]


@pytest.fixture
def path(tmp_path, monkeypatch):
    path = promptvault_app.create_app(tmp_path / "app", "deployed")
    add_many_plays(path, 1500)
    with path.with_name("dbctl.toml").open("a") as file:
        file.write("incremental = true\n")
    monkeypatch.setenv("DBCTL_STATE", str(find_state(path)))
    return path


def start_dbctl(path, *arguments, **options):
    state = {"DBCTL_STATE": str(find_state(path))}
    return forge.start(path.parent, *arguments, "-o", "json", environment=state, **options)


def find_state(path):
    return path.parent / "state"


def run_dbctl(path, *arguments):
    status, result = wait_for_result(start_dbctl(path, *arguments))
    assert status == 0, result
    return result["data"]


def create_timer(path, name, *arguments):
    start = time.monotonic()
    run_dbctl(path, *arguments)
    return KillTimer(create_rng(name), time.monotonic() - start)


def interrupt(path, timer, signal_number, *arguments):
    """Start a command, send it a signal after a random delay, and return its exit code."""
    process = start_dbctl(path, *arguments)
    timer.send_signal(process, signal_number)
    status, _ = wait_for_result(process)
    wait_for_rdiff(path.parent.parent)
    return status


def wait_for_rdiff(folder):
    deadline = time.monotonic() + RDIFF_SECONDS
    while programs := list_rdiff_processes(folder):
        assert time.monotonic() < deadline, programs
        time.sleep(0.01)


def list_rdiff_processes(folder):
    """Return the command lines of running rdiff processes that use a file in a folder."""
    lines = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"/rdiff") and str(folder).encode() in b" ".join(words):
                lines.append(words)
    return lines


def list_backups(path, repository="backups"):
    """Return the complete backups, oldest first, each with its bases."""
    listing = run_dbctl(path, "backup", "list", "--repository", repository)
    return {backup["id"]: backup["bases"] for backup in reversed(listing["items"])}


def assert_valid(path, *options):
    """Assert that each backup can be read, except incomplete ones, and that each difference has its base."""
    with_repository = ("--repository", *options) if options else ()
    _status, result = wait_for_result(start_dbctl(path, "backup", "verify", "--deep", *with_repository))
    assert {finding["code"] for finding in result["data"]["findings"]} <= {
        "backup-incomplete",
        "no-backup",
    }, result
    backups = list_backups(path, *options)
    assert {base for bases in backups.values() for base in bases} <= backups.keys()
    return backups


def assert_no_leftovers(path, repository="backups"):
    names = [entry.name for entry in (path.parent / repository / "fp").iterdir()]
    assert {name for name in names if not name[:8].isdigit()} <= {".dbctl-lock"}
    assert not [entry.name for entry in (find_state(path) / "signatures").iterdir() if "-new-" in entry.name]


def change(path, number):
    run_statements(path, f"update users set email = '{number}@changed.example' where id = 1")


def fill(path, number):
    """Create a base and two differences; return the ids."""
    ids = [run_dbctl(path, "backup", "create", "--full")["id"]]
    for index in range(2):
        change(path, f"{number}-{index}")
        created = run_dbctl(path, "backup", "create")
        assert created["bases"] == ids[:1]
        ids.append(created["id"])
    return ids


@pytest.mark.parametrize("signal_number", SIGNALS, ids=["kill", "term"])
def test_killed_incremental_backup_leaves_earlier_ones(path, signal_number):
    run_dbctl(path, "backup", "create")
    change(path, 0)
    timer = create_timer(path, f"increment {signal_number}", "backup", "create")
    for number in range(choose_count(2, 300)):
        before = list_backups(path)
        change(path, number)
        interrupt(path, timer, signal_number, "backup", "create")
        assert before.items() <= assert_valid(path).items()
        change(path, f"{number} again")
        created = run_dbctl(path, "backup", "create")
        assert created["bases"] or any("has no signature" in remark for remark in created["remarks"]), created
        assert_valid(path)
        run_dbctl(path, "backup", "prune", "--keep-last", "2", "--yes")
        assert_no_leftovers(path)
    timer.assert_in_time()


@pytest.mark.parametrize("signal_number", SIGNALS, ids=["kill", "term"])
def test_killed_backup_of_unchanged_database_leaves_earlier_ones(path, signal_number):
    base = run_dbctl(path, "backup", "create")["id"]
    timer = create_timer(path, f"unchanged {signal_number}", "backup", "create")
    for _ in range(choose_count(2, 300)):
        before = list_backups(path)
        interrupt(path, timer, signal_number, "backup", "create")
        assert before.items() <= assert_valid(path).items()
        created = run_dbctl(path, "backup", "create")
        assert (created["bases"], created["bytes"]) == ([base], 0), created
        run_dbctl(path, "backup", "prune", "--keep-last", "2", "--yes")
        assert_no_leftovers(path)
    timer.assert_in_time()


@pytest.mark.parametrize("signal_number", SIGNALS, ids=["kill", "term"])
def test_killed_full_backup_replaces_no_signature_of_existing_base(path, signal_number):
    """After an interrupted full backup, the next one is a difference from the older base, or full."""
    run_dbctl(path, "backup", "create")
    timer = create_timer(path, f"full {signal_number}", "backup", "create", "--full")
    for number in range(choose_count(2, 100)):
        interrupt(path, timer, signal_number, "backup", "create", "--full")
        change(path, number)
        created = run_dbctl(path, "backup", "create")
        assert set(created["bases"]) <= assert_valid(path).keys()
        run_dbctl(path, "backup", "prune", "--keep-last", "1", "--yes")
        assert_no_leftovers(path)
    timer.assert_in_time()


@pytest.mark.parametrize("signal_number", SIGNALS, ids=["kill", "term"])
@pytest.mark.parametrize("command", ["prune", "delete"])
def test_killed_deletion_leaves_no_difference_without_base(path, command, signal_number):
    def choose_words(ids):
        if command == "prune":
            return ("backup", "prune", "--keep-last", "1", "--yes")
        return ("backup", "delete", ids[0], "--with-dependents", "--yes")

    ids = fill(path, 0)
    last = run_dbctl(path, "backup", "create", "--full")["id"]
    timer, partial_count = create_timer(path, f"{command} {signal_number}", *choose_words(ids)), 0
    for number in range(choose_count(2, 200)):
        ids = fill(path, number)
        last = run_dbctl(path, "backup", "create", "--full")["id"]
        interrupt(path, timer, signal_number, *choose_words(ids))
        remaining = assert_valid(path)
        partial_count += 0 < len(remaining.keys() & set(ids)) < len(ids)
        assert last in remaining
        if ids[0] in remaining:
            run_dbctl(path, *choose_words(ids))
        run_dbctl(path, "backup", "prune", "--keep-last", "1", "--yes")
        assert list_backups(path).keys() == {last}
        assert_no_leftovers(path)
    print("partially deleted", partial_count)
    timer.assert_in_time()


@pytest.mark.parametrize("signal_number", SIGNALS, ids=["kill", "term"])
def test_killed_copy_leaves_no_difference_without_base(path, signal_number):
    ids, copy = fill(path, 0), ("backup", "copy", "--to", "other")
    timer = create_timer(path, f"copy {signal_number}", *copy)
    for _ in range(choose_count(2, 200)):
        shutil.rmtree(path.parent / "other")
        interrupt(path, timer, signal_number, *copy)
        if (path.parent / "other" / "fp").is_dir():
            assert_valid(path, "other")
        run_dbctl(path, *copy)
        assert list(assert_valid(path, "other")) == ids
        assert_no_leftovers(path, "other")
    timer.assert_in_time()


def test_failed_call_leaves_earlier_backups_and_the_database(path):
    """One call that changes a file fails, as on a disk that is full for a moment."""
    forge.require_faults()
    run_dbctl(path, "backup", "create")
    change(path, 0)
    last, statuses = run_dbctl(path, "backup", "create"), set()
    commands = [
        ("backup", "create"),
        ("backup", "create", "--full"),
        ("restore", "apply", last["id"], "--yes"),
    ]
    for words in commands:
        rng, calls = create_rng(f"failed call of {words}"), count_calls(path, words)
        for _ in range(choose_count(1, 100)):
            change(path, rng.random())
            before, rows = list_backups(path), promptvault_app.read_content(path)
            job = start_dbctl(
                path,
                *words,
                fault=("fail once", rng.randrange(1, calls + 1), errno.ENOSPC),
                below=path.parent.parent,
            )
            status, result = wait_for_result(job)
            statuses.add(status)
            assert status == 0 or result["error"]["code"] != "internal", result
            assert before.items() <= assert_valid(path).items()
            if words[0] == "backup" or status:
                assert promptvault_app.read_content(path) == rows
            created = run_dbctl(path, "backup", "create")
            assert_valid(path)
            keep = sorted({last["id"], *last["bases"], created["id"], *created["bases"]})
            for name in list_backups(path).keys() - set(keep):
                shutil.rmtree(path.parent / "backups" / "fp" / name)
    print(statuses)


#: Commands that change the repository or the database, by the ids of a base and two differences.
WRITERS = {
    "create": lambda _ids: ("backup", "create"),
    "delete": lambda ids: ("backup", "delete", ids[0], "--with-dependents", "--yes"),
    "prune": lambda _ids: ("backup", "prune", "--keep-last", "1", "--yes"),
    "copy": lambda _ids: ("backup", "copy", "--to", "other"),
    "restore": lambda ids: ("restore", "apply", ids[-1], "--yes"),
}


@pytest.mark.parametrize("command", WRITERS)
def test_fault_at_any_call_leaves_valid_backups(path, command):
    """Each call that changes a file is once the last one, fails once, or is the first one on a disk that stays full."""
    forge.require_faults()
    ids = fill(path, 0)
    saved = promptvault_app.read_content(path)
    change(path, "later")
    last = run_dbctl(path, "backup", "create", "--full")["id"]
    changed = promptvault_app.read_content(path)
    environment = {"DBCTL_STATE": str(find_state(path))}
    runs = FaultRuns(path, WRITERS[command](ids), environment=environment)
    for run in runs.sample_faults(f"fault of {command}", 2):
        wait_for_rdiff(path.parent.parent)
        backups = assert_valid(path)
        removed = {*ids, last} - backups.keys()
        run.check(not removed or (command in ("delete", "prune") and last not in removed), f"lost: {removed}")
        if (path.parent / "other" / "fp").is_dir():
            assert_valid(path, "other")
        possible = [saved, changed] if command == "restore" else [changed]
        run.check(promptvault_app.read_content(path) in possible, "other rows")
        change(path, "last")
        created = run_dbctl(path, "backup", "create")
        run.check(not created["bases"] or created["bases"] == [last], "another base")
        run_dbctl(path, *WRITERS["prune"](ids))
        remaining, required = assert_valid(path).keys(), {*created["bases"], created["id"]}
        run.check(remaining >= required and not remaining & {*ids, last} - required, f"remain: {remaining}")
        assert_no_leftovers(path)
    runs.assert_no_problems()


def count_calls(path, words):
    """Return the number of calls of a command that can fail."""
    job = start_dbctl(path, *words, fault=("fail once", 1 << 30, errno.EIO), below=path.parent.parent)
    assert wait_for_result(job)[0] == 0
    return job.calls


#: Commands that read the last one of three backups, by their ids.
READERS = {
    "verify": lambda _ids: ("backup", "verify", "--deep"),
    "copy": lambda _ids: ("backup", "copy", "--to", "other"),
    "restore": lambda ids: ("restore", "apply", ids[-1], "--yes"),
    "drill": lambda ids: ("backup", "drill", ids[-1]),
}


def remove_folders(path, ids):
    """Delete differences and their base without a lock, as fast as possible."""
    for name in reversed(ids):
        folder = path.parent / "backups" / "fp" / name
        if folder.exists():
            (folder / "manifest.json").unlink()
            shutil.rmtree(folder)


def delete(path, ids):
    wait_for_result(start_dbctl(path, "backup", "delete", ids[0], "--with-dependents", "--yes"))


def damage_base(path, ids):
    """Overwrite a half of the base with other bytes."""
    (file,) = (path.parent / "backups" / "fp" / ids[0]).glob("*.gz")
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        stream.write(b"other bytes" * 100)


@pytest.mark.parametrize("event", [remove_folders, delete, damage_base], ids=lambda event: event.__name__)
@pytest.mark.parametrize("command", READERS)
def test_base_that_changes_during_command_is_reported_truthfully(path, command, event):
    """A base is deleted or replaced at a random moment of a command that reads it."""
    rng, outcomes = create_rng(f"{event.__name__} during {command}"), set()
    retained = run_dbctl(path, "backup", "create", "--full")["id"]
    for number in range(choose_count(1, 70)):
        ids = fill(path, number)
        saved = promptvault_app.read_content(path)
        change(path, f"{number} later")
        changed = promptvault_app.read_content(path)
        job = start_dbctl(path, *READERS[command](ids))
        time.sleep(rng.uniform(0, 0.6))
        event(path, ids)
        status, result = wait_for_result(job)
        outcomes.add(status)
        assert status == 0 or not (result["error"] and result["error"]["code"] == "internal"), result
        is_restored = command == "restore" and status == 0
        assert promptvault_app.read_content(path) == (saved if is_restored else changed)
        remove_folders(path, ids)
        if (path.parent / "other" / "fp").is_dir():
            assert_valid(path, "other")
            shutil.rmtree(path.parent / "other")
        assert retained in assert_valid(path)
        for name in list_backups(path).keys() - {retained}:
            shutil.rmtree(path.parent / "backups" / "fp" / name)
    print(outcomes)
