"""The log of changes of older versions, which is imported when the event store is created."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.services.events.changes.export import export_lines
from dbctl.services.events.changes.log import append_changes
from dbctl.services.events.changes.records import Anchor, decode_record
from dbctl.services.events.changes.verify import verify_log
from dbctl.services.events.history import list_runs
from dbctl.services.events.legacy import list_unimported
from dbctl.services.events.runs import RunFilter
from dbctl.services.events.store import FILE_NAME, LEGACY_LOG, LEGACY_NAME, EventStore
from tests.crash.figures import choose_steps
from tests.services.events.kills import STRIDE, fork, run_killed, wait

#: A log that versions before the event store wrote: rotated twice, with values in the form of still older versions and an incomplete record.
LOG = Path(__file__).with_name("audit_log")
NAMES = [f"{LEGACY_LOG}.2", f"{LEGACY_LOG}.1", LEGACY_LOG]
COUNT = 13
LAST = Anchor(sequence=13, hash="975ce6633e4e799d967e1f50ad73ac7fcae33ac1c9e41a5a147ba8358da121ad")


@pytest.fixture
def state(tmp_path):
    """The directory of an older version, which had a journal, too: here without runs."""
    folder = tmp_path / "state"
    shutil.copytree(LOG, folder)
    with closing(sqlite3.connect(folder / LEGACY_NAME)) as connection:
        connection.executescript(LOG.parents[1].joinpath("recorded", "journal.sql").read_text())
        connection.executescript("delete from runs; delete from outcomes; delete from samples;")
    return folder


def restore_names(folder, *names):
    """Undo the renames of files, as if the process that imported them was killed before."""
    for name in names:
        (folder / f"{name}.imported").rename(folder / name)


def append(folder):
    log = EventStore(folder)
    first = append_changes(log, [{"kind": "intent", "operation": 0, "databases": ["main"]}])
    outcome = {"kind": "outcome", "operation": first.sequence, "databases": ["main"], "result": "committed"}
    return append_changes(log, [outcome])


def list_codes(folder, **options):
    return [(finding.severity, finding.code) for finding in verify_log(folder, **options).findings]


def read_old_records():
    lines = [line for name in NAMES for line in (LOG / name).read_text().splitlines(keepends=True)]
    return [line for line in lines if decode_record(line.encode())]


def list_files(folder):
    return sorted(path.name for path in folder.glob(f"{LEGACY_LOG}*"))


def test_records_keep_their_text_numbers_and_hashes(state):
    anchor = append(state)
    lines = list(export_lines(state))
    assert lines[:COUNT] == read_old_records()
    assert [json.loads(line)["sequence"] for line in lines] == list(range(1, COUNT + 4))
    assert json.loads(lines[COUNT])["previous"] == LAST.hash
    assert list_codes(state, anchors=[LAST, anchor]) == []
    assert list_files(state) == sorted(f"{name}.imported" for name in NAMES)
    append(state)
    assert verify_log(state).checked == COUNT + 5


def test_compressed_file_is_imported_in_its_place(state):
    rotated = state / NAMES[0]
    rotated.with_name(f"{rotated.name}.gz").write_bytes(gzip.compress(rotated.read_bytes()))
    rotated.unlink()
    append(state)
    assert list(export_lines(state))[:COUNT] == read_old_records()


def test_part_in_another_directory_is_reported_until_it_is_passed(state, tmp_path):
    (state / NAMES[0]).rename(tmp_path / "archive")
    append(state)
    assert list_codes(state) == [("error", "audit-rotated")]
    previous = decode_record(read_old_records()[5].encode())
    stored = [Anchor(sequence=previous.sequence - 1, hash=previous.previous)]
    assert list_codes(state, stored=stored) == [("warning", "audit-rotated")]
    assert list_codes(state, others=[tmp_path / "archive"]) == []


TAMPERINGS = {
    "edit": lambda lines: [lines[0], lines[1].replace(b'"user"', b'"User"'), *lines[2:]],
    "delete": lambda lines: lines[1:],
    "delete in between": lambda lines: [lines[0], *lines[2:]],
    "duplicate": lambda lines: [lines[0], *lines],
    "swap": lambda lines: [lines[1], lines[0], *lines[2:]],
    "insert": lambda lines: [lines[0], b"{}\n", *lines[1:]],
    "blank": lambda lines: [b"\n", *lines[1:]],
    "space": lambda lines: [lines[0].replace(b":", b": ", 1), *lines[1:]],
    "truncate": lambda lines: lines[:1],
    "number": lambda lines: [
        lines[0],
        lines[1].replace(b'"sequence":10', b'"sequence":' + b"9" * 30),
        *lines[2:],
    ],
    "incomplete record": lambda lines: [
        line.replace(b'{"kind":"intent","op', b'{"kind":"intent","ox') for line in lines
    ],
}


@pytest.mark.parametrize("change", TAMPERINGS)
def test_tampering_of_a_file_is_detected_after_its_import(state, change):
    path = state / LEGACY_LOG
    lines = path.read_bytes().splitlines(keepends=True)
    tampered = TAMPERINGS[change](lines)
    assert tampered != lines
    path.write_bytes(b"".join(tampered))
    assert "error" in {
        severity
        for severity, _ in list_codes(state / "none", others=[state / name for name in NAMES], anchors=[LAST])
    }
    append(state)
    assert "error" in {severity for severity, _ in list_codes(state, anchors=[LAST])}
    assert list_files(state) == sorted(f"{name}.imported" for name in NAMES)
    assert (state / f"{LEGACY_LOG}.imported").read_bytes() == b"".join(tampered)


def test_files_are_renamed_if_their_records_are_already_imported(state):
    append(state)
    restore_names(state, NAMES[0], LEGACY_LOG, LEGACY_NAME)
    append(state)
    assert list_files(state) == sorted(f"{name}.imported" for name in NAMES)
    assert (verify_log(state).checked, list_codes(state)) == (COUNT + 5, [])


def test_record_that_an_older_version_appends_after_a_killed_import_is_reported(state):
    append(state)
    restore_names(state, *NAMES, LEGACY_NAME)
    path = state / LEGACY_LOG
    path.write_bytes(path.read_bytes() + read_old_records()[0].encode())
    append(state)
    assert list_files(state) == sorted([LEGACY_LOG, *(f"{name}.imported" for name in NAMES[:2])])
    assert (verify_log(state).checked, list_codes(state)) == (COUNT + 5, [("warning", "audit-gap")])


def test_log_that_appears_later_replaces_nothing_and_is_reported(state):
    append(state)
    (state / f"{LEGACY_LOG}.imported").unlink()
    content = b"".join((LOG / LEGACY_LOG).read_bytes().splitlines(keepends=True)[:-1])  # of a copy
    for _ in range(2):
        shutil.copytree(LOG, state, dirs_exist_ok=True)
        (state / LEGACY_LOG).write_bytes(content)
        append(state)
        assert (state / LEGACY_LOG).read_bytes() == content
        (finding,) = verify_log(state).findings
        assert (finding.code, str(state / LEGACY_LOG) in finding.message) == ("audit-gap", True)
    assert list_codes(state, others=[state / LEGACY_LOG]) == [
        ("info", "audit-copy"),
        ("warning", "audit-gap"),
    ]
    (state / LEGACY_LOG).unlink()
    assert (verify_log(state).checked, list_codes(state)) == (COUNT + 7, [])


def test_journal_that_appears_later_is_reported(state):
    append(state)
    (state / LEGACY_NAME).write_bytes(b"of a restored directory")
    (finding,) = verify_log(state).findings
    assert (finding.severity, finding.code) == ("warning", "audit-gap")
    assert str(state / LEGACY_NAME) in finding.message


@pytest.mark.parametrize("is_empty", [False, True])
def test_imported_files_without_records_in_the_store_are_an_error(state, is_empty):
    append(state)
    if is_empty:
        with closing(sqlite3.connect(state / FILE_NAME)) as connection, connection:
            connection.executescript("drop trigger changes_delete; delete from changes;")
    else:
        for path in state.glob(f"{FILE_NAME}*"):
            path.unlink()
    assert list_codes(state) == [("error", "audit-missing")]


def test_damaged_archive_is_counted_and_named(state):
    archive = state / f"{NAMES[0]}.gz"
    archive.write_bytes(gzip.compress((state / NAMES[0]).read_bytes())[:-20])
    (state / NAMES[0]).unlink()
    append(state)
    assert list_unimported(state) == [archive]
    (start,) = [record for record in map(json.loads, export_lines(state)) if record.get("problems")]
    assert start["problems"] == 1
    assert "error" in {severity for severity, _ in list_codes(state, others=[LOG / NAMES[0]])}


def test_only_regular_files_with_the_names_of_a_log_are_imported(state, tmp_path):
    (state / LEGACY_LOG).rename(tmp_path / "target")
    (state / LEGACY_LOG).symlink_to(tmp_path / "target")
    (state / f"{LEGACY_LOG}.d").mkdir()
    shutil.copy(state / NAMES[0], state / f"{LEGACY_LOG}.bak")
    (state / f"{LEGACY_LOG}.7").mkdir()
    append(state)
    remaining = [LEGACY_LOG, f"{LEGACY_LOG}.7", f"{LEGACY_LOG}.bak", f"{LEGACY_LOG}.d"]
    assert list_files(state) == sorted([*remaining, *(f"{name}.imported" for name in NAMES[:2])])
    assert list_unimported(state) == [state / LEGACY_LOG, state / f"{LEGACY_LOG}.7"]


def test_deletion_of_the_store_is_noticed_before_the_first_change(state):
    list_runs(state, RunFilter(limit=1))
    assert (verify_log(state).checked, list_codes(state)) == (COUNT + 1, [])
    for path in [*state.glob(f"{FILE_NAME}*"), *state.glob("*.imported*")]:
        path.unlink()
    assert list_codes(state) == [("error", "audit-missing")]


def test_several_processes_import_once(state):
    assert [wait(pid) for pid in [fork(lambda: append(state)) for _ in range(8)]] == [0] * 8
    assert list(export_lines(state))[:COUNT] == read_old_records()
    assert (verify_log(state).checked, list_codes(state)) == (COUNT + 17, [])
    assert list_files(state) == sorted(f"{name}.imported" for name in NAMES)


def test_file_with_other_records_remains_and_is_reported(state):
    append(state)
    (state / LEGACY_LOG).write_text(read_old_records()[0].replace("db1", "db2"))
    append(state)
    assert (state / LEGACY_LOG).exists()
    assert list_codes(state) == [("warning", "audit-gap")]


def test_writer_of_an_older_version_is_waited_for(state):
    path = state / LEGACY_LOG
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=append, args=[state])
        thread.start()
        time.sleep(0.2)
        assert path.exists()
        file.write(b'{"kind":"intent"')
    thread.join()
    assert not path.exists()


def test_link_of_another_user_is_not_imported(state, tmp_path):
    if os.geteuid():
        pytest.skip("only root can give a file to another user")
    state.chmod(0o777)
    for name in NAMES:
        (state / name).unlink()
    shutil.copy(LOG / LEGACY_LOG, tmp_path / "target")
    (state / LEGACY_LOG).symlink_to(tmp_path / "target")
    os.lchown(state / LEGACY_LOG, 12345, 12345)
    append(state)
    assert verify_log(state).checked == 3
    assert list_codes(state) == [("warning", "audit-gap")]


@pytest.mark.slow
def test_import_that_is_killed_at_any_step_is_repeated_without_loss_or_duplicates(state, tmp_path):
    original = state
    for step in choose_steps("import of the log", STRIDE):
        state = tmp_path / str(step)
        shutil.copytree(original, state)
        is_killed = run_killed(step, lambda state=state: append(state))
        append(state)
        lines = list(export_lines(state))
        assert lines[:COUNT] == read_old_records()
        assert "error" not in {severity for severity, _ in list_codes(state, anchors=[LAST])}
        assert list_files(state) == sorted(f"{name}.imported" for name in NAMES)
        shutil.rmtree(state)
        if not is_killed:
            break
    assert step > 40


def create_blog(folder):
    with closing(sqlite3.connect(folder / "blog.db")) as connection:
        connection.executescript(
            "create table posts (id integer primary key, title text, size real, body blob, at timestamp);"
            "insert into posts values (1, 'x', 2.5, x'00ff', '2026-01-31 12:00:00');"
        )
    (folder / "dbctl.toml").write_text('[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n')


def test_operations_of_older_versions_are_listed_and_undone(state, tmp_path, answer, monkeypatch):
    create_blog(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(state))
    assert answer("undo", "4", "--yes", status=6)["error"]["code"] == "undo-impossible"  # rounded numbers
    answer("undo", "10", "--yes")
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection:
        assert connection.execute("select * from posts where id = 2").fetchall() == [
            (2, "b", 0.1, None, None)
        ]
    operations = answer("audit", "list")["data"]["items"]
    assert [item["operation"] for item in operations] == [15, 12, 10, 7, 4, 2]
    assert [item["undone_by"] for item in operations] == [None, None, 15, None, None, None]
    assert answer("audit", "show", "4")["data"]["changes"][0]["images"][0]["before"]["body"] == {
        "$bytes": "AQ=="
    }
    assert answer("audit", "verify")["data"]["findings"] == []


def test_log_that_was_truncated_before_its_import_is_reported_without_the_runs(state):
    with closing(sqlite3.connect(state / LEGACY_NAME)) as connection, connection:
        row = ("data set", "success", 0, "2026-01-01T00:00:00+00:00", json.dumps({"audit": str(LAST)}))
        sql = "insert into runs (command, result, failed, started_at, record) values (?, ?, ?, ?, ?)"
        connection.execute(sql, row)
    path = state / LEGACY_LOG
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    append(state)
    with closing(sqlite3.connect(state / FILE_NAME)) as connection, connection:
        connection.execute("delete from runs")
    assert ("error", "audit-edited") in list_codes(state)
