"""``backup rekey`` that is killed or fails: each backup has its old files or its new ones, and the next run completes it."""

from __future__ import annotations

import shutil

import pytest
from pyrage import x25519

from tests.crash import forge
from tests.crash.figures import choose_count
from tests.crash.forge import wait_for_result
from tests.crash.test_every_call import FaultRuns
from tests.crash.test_increments import (  # noqa: F401 - a fixture
    SIGNALS,
    change,
    create_timer,
    fill,
    find_state,
    interrupt,
    path,
    run_dbctl,
    start_dbctl,
)

REKEY = ("backup", "rekey", "--identity", "old.txt", "--identity", "new.txt", "--yes")


@pytest.fixture
def ids(path):  # noqa: F811
    """Create a base, two differences and a reference for the old key, and configure the new one."""
    folder = path.parent
    recipients = [create_identity(folder / name) for name in ("old.txt", "new.txt")]
    file = folder / "dbctl.toml"
    text = file.read_text()
    file.write_text(f'{text}encrypt = {{ recipients = ["{recipients[0]}"] }}\n')
    ids = fill(path, 0)
    ids.append(run_dbctl(path, "backup", "create")["id"])
    file.write_text(f'{text}encrypt = {{ recipients = ["{recipients[1]}"] }}\n')
    return ids


def create_identity(file):
    identity = x25519.Identity.generate()
    file.touch(mode=0o600)
    file.write_text(f"{identity}\n")
    return str(identity.to_public())


def find_problems(path, *identities):  # noqa: F811
    """Return the codes of the problems of the backups, as far as these identities decrypt them."""
    options = [word for name in identities for word in ("--identity", name)]
    _status, result = wait_for_result(start_dbctl(path, "backup", "verify", "--deep", *options))
    return {finding["code"] for finding in result["data"]["findings"]}


def list_ids(path):  # noqa: F811
    return [item["id"] for item in reversed(run_dbctl(path, "backup", "list")["items"])]


@pytest.mark.parametrize("signal_number", SIGNALS, ids=["kill", "term"])
def test_killed_rekey_leaves_readable_backups_and_is_completed(path, ids, signal_number):  # noqa: F811
    saved = path.parent.with_name("saved")
    shutil.copytree(path.parent, saved)
    timer, partial = create_timer(path, f"rekey {signal_number}", *REKEY), 0
    for _ in range(choose_count(4, 200)):
        shutil.rmtree(path.parent)
        shutil.copytree(saved, path.parent)
        interrupt(path, timer, signal_number, *REKEY)
        assert find_problems(path, "old.txt", "new.txt") <= {"file-unknown"}
        done = run_dbctl(path, *REKEY)
        partial += 0 < len(done["encrypted"]) < len(ids)
        assert list_ids(path) == ids
        assert find_problems(path, "new.txt") == set()
    print("partially encrypted", partial)
    timer.assert_in_time()


def test_fault_at_any_call_leaves_readable_backups(path, ids):  # noqa: F811
    """Each call that changes a file is once the last one, fails once, or is the first one on a disk that stays full."""
    forge.require_faults()
    runs = FaultRuns(path, REKEY, environment={"DBCTL_STATE": str(find_state(path))})
    for run in runs.sample_faults("fault of rekey", 6):
        problems = find_problems(path, "old.txt", "new.txt")
        run.check(problems <= {"file-unknown"}, f"problems: {problems}")
        change(path, "last")
        created = run_dbctl(path, "backup", "create")
        run_dbctl(path, *REKEY)
        run.check(list_ids(path) == [*ids, created["id"]], "other backups")
        problems = find_problems(path, "new.txt")
        run.check(not problems, f"remaining problems: {problems}")
    runs.assert_no_problems()
