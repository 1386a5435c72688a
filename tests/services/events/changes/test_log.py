"""The changes of the event store: order, concurrency, full disks, and every kind of tampering."""

from __future__ import annotations

import gzip
import json
import os
import resource
import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from dbctl.cli.main import main
from dbctl.config.model import AuditConfig, JournalConfig
from dbctl.engines.sql import codec
from dbctl.errors.operations import AuditInvalidError, AuditUnavailableError, JournalUnavailableError
from dbctl.model import now
from dbctl.services.events.changes import log as anchors
from dbctl.services.events.changes.export import export_lines, export_records
from dbctl.services.events.changes.log import GAP_NAME, append_changes, note_gap
from dbctl.services.events.changes.operations import OperationFilter, list_operations, show_operation
from dbctl.services.events.changes.records import (
    Anchor,
    decode_old_value,
    describe_value,
    is_sealed,
    parse_anchor,
    seal,
)
from dbctl.services.events.changes.verify import MAX_FINDINGS, verify_log
from dbctl.services.events.history import list_runs
from dbctl.services.events.recorder import RunRecorder
from dbctl.services.events.runs import Run, RunFilter
from dbctl.services.events.store import FILE_NAME, EventStore
from tests.services.events.kills import run_killed

RECORDS = 6


def append(folder, count=RECORDS):
    """Append operations with their results; return the last anchor."""
    log, anchor = EventStore(folder), None
    for _ in range(count // 2):
        first = append_changes(log, [{"kind": "intent", "operation": 0, "databases": ["main"]}])
        outcome = {"kind": "outcome", "operation": first.sequence, "databases": ["main"]}
        anchor = append_changes(log, [{**outcome, "result": "committed"}])
    return anchor


def list_codes(folder, **options):
    return [(finding.severity, finding.code) for finding in verify_log(folder, **options).findings]


@contextmanager
def tamper(folder):
    """Yield a connection to the store without its triggers, as a user who may write the file can open it."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection, connection:
        for name in ("update", "delete"):
            connection.execute(f"drop trigger if exists changes_{name}")
        yield connection


def delete_store(folder):
    for path in folder.glob(f"{FILE_NAME}*"):
        path.unlink()


def publish(folder, anchor):
    assert list(anchors.publish_anchor(folder, AuditConfig(), str(anchor), str(anchor))) == []


@pytest.fixture
def log(tmp_path):
    append(tmp_path)
    return tmp_path


def test_intact_log_has_no_problems(log):
    result = verify_log(log)
    assert (result.checked, result.findings) == (RECORDS + 1, [])
    assert result.anchor.startswith(f"{RECORDS + 1}:")


#: Changes of the row with a number, as SQL: the text of its record, its columns, or its place.
TAMPERINGS = {
    "edit": """update changes set record = cast(replace(cast(record as text), '"kind":"', '"kind":"x') as blob) where seq = :n""",
    "space": "update changes set record = cast(replace(cast(record as text), ':', ': ') as blob) where seq = :n",
    "blank": "update changes set record = x'' where seq = :n",
    "text": "update changes set record = 'no record' where seq = :n",
    "no UTF-8": "update changes set record = x'ff', app = cast(x'ff' as text) where seq = :n",
    "app": "update changes set app = 'other' where seq = :n",
    "command": "update changes set command = 'users list' where seq = :n",
    "kind": "update changes set kind = 'note' where seq = :n",
    "time": "update changes set time = '2001-01-01T00:00:00.000+00:00' where seq = :n",
    "operation": "update changes set operation = operation + 7 where seq = :n",
    "undoes": "update changes set undoes = 2 where seq = :n",
    "hash": "update changes set hash = replace(hash, substr(hash, 1, 1), 'x') where seq = :n",
    "delete": "delete from changes where seq = :n",
    "truncate": "delete from changes where seq >= :n",
    "move": "update changes set seq = 99 where seq = :n",
    "duplicate": "insert into changes select 99, hash, kind, time, operation, undoes, app, command, record from changes where seq = :n",
    "insert": "insert into changes select 99, hash, kind, time, operation, undoes, app, command, x'7b7d' from changes where seq = :n",
}


@pytest.mark.parametrize("number", range(1, RECORDS + 2))
@pytest.mark.parametrize("change", [*TAMPERINGS, "swap"])
def test_every_tampering_is_detected(log, number, change):
    anchor = parse_anchor(verify_log(log).anchor)
    with tamper(log) as connection:
        if change == "swap":
            other = number - 1 if number > 1 else 2
            for old, new in ((number, 98), (other, number), (98, other)):
                connection.execute("update changes set seq = ? where seq = ?", (new, old))
        else:
            connection.execute(TAMPERINGS[change], {"n": number})
    assert "error" in {severity for severity, _ in list_codes(log, anchors=[anchor])}


def test_triggers_refuse_to_change_records(log):
    with closing(sqlite3.connect(log / FILE_NAME)) as connection:
        for statement in ("update changes set app = 'x'", "delete from changes where seq = 7"):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement)
    assert list_codes(log) == []


def test_log_that_was_written_again_differs_from_the_anchor(log):
    last = append(log)
    with tamper(log) as connection:
        connection.execute("delete from changes")
    append_changes(EventStore(log), [{"kind": "intent", "operation": 0, "user": "mallory"}])
    append(log, RECORDS * 2)
    assert "audit-replaced" in {code for _, code in list_codes(log, anchors=[last])}


def test_deleted_store_is_missing(log):
    last = append(log)
    publish(log, last)
    delete_store(log)
    assert list_codes(log) == [("error", "audit-missing")]
    (log / anchors.ANCHOR_NAME).unlink()
    assert list_codes(log) == []  # no anchor names a record of it
    assert list_codes(log, anchors=[last]) == [("error", "audit-missing")]
    assert list_codes(log, stored=[last]) == [("error", "audit-missing")]


def test_new_store_under_the_old_name_is_replaced(log):
    export = log / "export.jsonl"
    last = append(log)
    export.write_text("".join(export_lines(log)))
    publish(log, last)
    delete_store(log)
    newest = append(log)
    assert newest.sequence == last.sequence + 1 + RECORDS  # numbers are not used again
    assert list_codes(log) == [("error", "audit-replaced")]
    publish(log, newest)
    assert list_codes(log) == [("error", "audit-replaced")]
    assert list_codes(log, stored=[last]) == [("warning", "audit-replaced")]
    assert list_codes(log, others=[export]) == []


def test_new_store_without_an_anchor_file_is_replaced_for_any_other_anchor(log):
    last = append(log)
    delete_store(log)
    append(log)
    assert list_codes(log) == []
    assert list_codes(log, anchors=[last]) == [("error", "audit-replaced")]
    append(log, 20 * RECORDS)
    assert list_codes(log, anchors=[last]) == [("error", "audit-replaced")]


def test_records_of_another_store_are_replaced(log, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    append(other)
    with tamper(log) as connection:
        connection.execute("attach ? as other", (str(other / FILE_NAME),))
        connection.execute("delete from changes")
        connection.execute("insert into changes select * from other.changes")
    assert list_codes(log) == [("error", "audit-replaced")]


def test_store_without_its_id_is_written_and_reported(log):
    with tamper(log) as connection:
        connection.execute("delete from meta")
    append(log)
    assert list_codes(log) == [("error", "audit-replaced")]


def test_tail_that_was_cut_together_with_the_anchor_file_is_found_by_any_other_anchor(log):
    last = append(log)
    publish(log, last)
    with tamper(log) as connection:
        connection.execute("delete from changes where seq > 5")
    assert list_codes(log) == [("error", "audit-truncated")]
    (log / anchors.ANCHOR_NAME).unlink()
    assert list_codes(log)[:1] != [("error", "audit-truncated")]
    assert list_codes(log, anchors=[last])[0] == ("error", "audit-truncated")


def test_rolled_back_store_states_the_end_that_it_lost(log, tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy") / FILE_NAME
    with closing(sqlite3.connect(log / FILE_NAME)) as connection:
        connection.execute("vacuum into ?", (str(copy),))
    lost = append(log)
    publish(log, lost)
    delete_store(log)
    (log / FILE_NAME).write_bytes(copy.read_bytes())
    assert list_codes(log) == [("error", "audit-truncated")]
    for _ in range(3):
        publish(log, append(log))
    (finding,) = verify_log(log).findings
    assert (finding.severity, finding.code) == ("error", "audit-truncated")
    assert str(lost) in finding.message
    assert f"record {RECORDS + 2}," in finding.message
    assert [json.loads(line)["lost"] for line in export_lines(log) if '"lost"' in line] == [str(lost)]
    accepted = parse_anchor(verify_log(log).anchor)
    assert list_codes(log, stored=[accepted]) == [("warning", "audit-truncated")]
    assert ("error", "audit-replaced") in list_codes(log, stored=[accepted, lost])


def test_anchor_of_another_store_is_stated_before_it_is_replaced(log, tmp_path_factory):
    other = append(tmp_path_factory.mktemp("other"), 2)
    (log / anchors.ANCHOR_NAME).write_text(f"{other}\n{other}\n")
    for _ in range(2):
        publish(log, append(log))
    assert list_codes(log) == [("error", "audit-replaced")]
    assert anchors.read_anchor_file(log)[0].log != other.log


def test_new_store_states_the_missing_records_once(log):
    last = append(log)
    publish(log, last)
    delete_store(log)
    publish(log, append(log))
    assert list_codes(log) == [("error", "audit-replaced")]
    assert list_codes(log, stored=[last]) == [("warning", "audit-replaced")]


def test_anchor_of_an_older_version_has_no_log(log):
    last = append(log)
    old = parse_anchor(f"{last.sequence}:{last.hash}")
    assert (old, str(old)) == (Anchor(sequence=last.sequence, hash=last.hash), f"{last.sequence}:{last.hash}")
    assert list_codes(log, anchors=[old]) == []
    with tamper(log) as connection:
        connection.execute("delete from changes where seq = ?", (last.sequence,))
    assert ("error", "audit-truncated") in list_codes(log, anchors=[old])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "0:" + "a" * 64,
        "1:" + "A" * 64,
        "1:" + "a" * 63,
        "1:" + "a" * 64 + ":b",
        "9" * 30 + ":" + "a" * 64,
        "01:" + "a" * 64,
    ],
)
def test_other_texts_are_no_anchors(text):
    assert parse_anchor(text) is None


@pytest.mark.parametrize("content", [b"", b"\0" * 80, b"\xff", b"1:2"])
def test_anchor_file_without_an_anchor_is_reported_and_replaced(log, content):
    (log / anchors.ANCHOR_NAME).write_bytes(content)
    severity = "error" if content else "warning"  # a power failure leaves an empty file
    assert list_codes(log) == [(severity, "audit-unanchored")]
    publish(log, append(log))
    assert list_codes(log) == []


def test_anchor_file_keeps_the_later_end(log):
    first, last = append(log), append(log)
    publish(log, last)
    publish(log, first)
    assert anchors.read_anchor_file(log) == [last, last]


def test_anchor_file_is_not_written_through_a_link(log, tmp_path):
    (tmp_path / "target").write_text("content of root")
    (log / anchors.ANCHOR_NAME).symlink_to(tmp_path / "target")
    assert list_codes(log) == [("error", "audit-unanchored")]
    publish(log, append(log))
    assert (tmp_path / "target").read_text() == "content of root"
    assert list_codes(log) == []


def test_damaged_store_is_reported_and_never_written(log):
    export = log / "export.jsonl"
    export.write_text("".join(export_lines(log)))
    path = log / FILE_NAME
    with EventStore(log).writing() as connection:
        pages = connection.execute("pragma page_count").fetchone()[0]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    path.write_bytes(path.read_bytes()[:4096] + b"no database" * (pages * 300))
    content = path.read_bytes()
    assert ("error", "audit-unreadable") in list_codes(log)
    assert list_codes(log, others=[export])[0] == ("error", "audit-unreadable")
    assert verify_log(log, others=[export]).checked >= RECORDS + 1
    with pytest.raises(AuditUnavailableError):
        append(log)
    assert path.read_bytes() == content


@pytest.mark.parametrize("table", ["runs", "meta", "changes"])
def test_dropped_table_is_damage(log, table):
    with tamper(log) as connection:
        connection.execute(f"drop table {table}")
    assert ("error", "audit-unreadable") in list_codes(log)
    assert verify_log(log).checked == (0 if table == "changes" else RECORDS + 1)


def test_edited_run_is_damage_and_the_chain_is_checked(log):
    recorder = RunRecorder(log, JournalConfig(), Run(command="data set", started_at=now()), ["blog"])
    recorder.begin()
    recorder.finish(recorder.run)
    with tamper(log) as connection:
        connection.execute("update runs set record = 'x'")
        connection.execute(TAMPERINGS["kind"], {"n": 3})
    assert list_codes(log) == [("error", "audit-unreadable"), ("error", "audit-edited")]


@pytest.mark.parametrize("content", [b"\xff", b"x", b"{}", b""])
def test_export_of_a_record_that_cannot_be_read_ends_before_it(log, content):
    with tamper(log) as connection:
        connection.execute("update changes set record = ? where seq = 3", (content,))
    lines = list[str]()
    with pytest.raises(AuditInvalidError, match="record 3 "):
        lines += export_lines(log)
    with pytest.raises(AuditInvalidError):
        export_records(log)
    assert [json.loads(line)["sequence"] for line in export_lines(log, since=3)] == [*range(4, RECORDS + 2)]


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a": "\xff"', b"{"])
def test_record_that_is_no_json_is_reported_and_continued(log, content):
    with tamper(log) as connection:
        connection.execute(TAMPERINGS["insert"].replace("x'7b7d'", ":content"), {"n": 1, "content": content})
    assert {severity for severity, _ in list_codes(log)} == {"error"}
    append(log)
    assert verify_log(log).checked == 2 * RECORDS + 1


def test_large_record_is_read_and_continued(tmp_path):
    append_changes(EventStore(tmp_path), [{"kind": "intent", "operation": 0, "arguments": ["x" * 1_000_000]}])
    assert append(tmp_path).sequence == RECORDS + 2
    assert list_codes(tmp_path) == [("info", "audit-open")]


def test_export_is_a_copy_whose_hashes_remain_valid(log, tmp_path_factory):
    export = tmp_path_factory.mktemp("export") / "audit.jsonl"
    lines = list(export_lines(log))
    export.write_text("".join(lines))
    assert list_codes(log, others=[export]) == [("info", "audit-copy")]
    other = tmp_path_factory.mktemp("other")
    result = verify_log(other, others=[export], stored=[parse_anchor(verify_log(log).anchor)])
    assert (result.checked, result.findings) == (RECORDS + 1, [])
    assert list(export_lines(log, since=4)) == lines[4:]
    compressed = export.with_name("audit.jsonl.gz")
    compressed.write_bytes(gzip.compress(export.read_bytes()))
    assert list_codes(other, others=[compressed]) == []
    compressed.write_bytes(compressed.read_bytes()[:-20])
    with pytest.raises(AuditUnavailableError):
        verify_log(log, others=[compressed])


@pytest.mark.parametrize("position", range(RECORDS + 1))
@pytest.mark.parametrize(
    "change", ["edit", "delete", "duplicate", "swap", "insert", "blank", "space", "truncate"]
)
def test_every_tampering_of_an_export_is_detected(log, tmp_path_factory, position, change):
    lines = [line.encode() for line in export_lines(log)]
    anchor = parse_anchor(verify_log(log).anchor)
    match change:
        case "edit":
            lines[position] = lines[position].replace(b'"kind":"', b'"kind":"x')
        case "delete":
            del lines[position]
        case "duplicate":
            lines.insert(position, lines[position])
        case "swap":
            other = position - 1 if position else 1
            lines[position], lines[other] = lines[other], lines[position]
        case "insert":
            lines.insert(position, b"{}\n")
        case "blank":
            lines[position] = b"\n"
        case "space":
            lines[position] = lines[position].replace(b":", b": ", 1)
        case "truncate":
            lines = lines[:position]
    folder = tmp_path_factory.mktemp("copy")
    (folder / "export").write_bytes(b"".join(lines))
    codes = list_codes(folder / "state", anchors=[anchor], others=[folder / "export"])
    assert "error" in {severity for severity, _ in codes}


@pytest.mark.parametrize("change", ["delete", "duplicate", "swap", "blank", "empty"])
def test_copy_next_to_the_log_has_each_record_once_in_order(log, tmp_path_factory, change):
    lines = list(export_lines(log))
    match change:
        case "delete":
            del lines[2]
        case "duplicate":
            lines.insert(2, lines[2])
        case "swap":
            lines[2], lines[3] = lines[3], lines[2]
        case "blank":
            lines[2] = "\n"
        case "empty":
            lines = []
    path = tmp_path_factory.mktemp("export") / "audit.jsonl"
    path.write_text("".join(lines))
    assert ("error", "audit-missing") in list_codes(log, others=[path])


def test_incomplete_export_is_reported(log, tmp_path_factory):
    export = tmp_path_factory.mktemp("export") / "audit.jsonl"
    export.write_text("".join(export_lines(log))[:-40])
    assert list_codes(export.parent / "state", others=[export])[0] == ("warning", "audit-incomplete")


def test_symbolic_link_to_nothing_is_not_followed(tmp_path):
    target = tmp_path / "target"
    (tmp_path / FILE_NAME).symlink_to(target)
    with pytest.raises(AuditUnavailableError):
        append(tmp_path)
    assert not target.exists()


@pytest.mark.slow
def test_twenty_concurrent_writers_lose_no_record(tmp_path):
    pids = []
    for _ in range(20):
        pid = os.fork()
        if not pid:
            try:
                for _ in range(10):
                    publish(tmp_path, append(tmp_path, 2))
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 20
    result = verify_log(tmp_path)
    assert (result.checked, result.findings) == (20 * 20 + 1, [])


def test_full_disk_leaves_the_log_intact_and_the_gap_is_recorded(log):
    for path in log.glob(f"{FILE_NAME}*"):
        size = max(path.stat().st_size, 4096)
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            append(log, 400)
        except AuditUnavailableError:
            note_gap(log)
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert ("warning", "audit-gap") in list_codes(log)
    assert "error" not in {severity for severity, _ in list_codes(log)}
    assert (log / GAP_NAME).exists()
    append(log)
    assert not (log / GAP_NAME).exists()
    assert ("warning", "audit-gap") in list_codes(log)
    assert any(json.loads(line).get("gap") for line in export_lines(log))


def test_error_is_listed_although_many_warnings_precede_it(log):
    store = EventStore(log)
    for _ in range(MAX_FINDINGS + 1):
        note_gap(log)
        last = append_changes(store, [{"kind": "intent", "operation": 0, "databases": ["main"]}])
    assert not [*anchors.publish_anchor(log, AuditConfig(), str(last), str(last))]
    with tamper(log) as connection:
        connection.execute("delete from changes where seq = ?", [last.sequence])
    assert list_codes(log)[0] == ("error", "audit-truncated")
    with pytest.raises(AuditInvalidError):
        show_operation(log, 2, is_verified=True)


def test_result_that_does_not_fit_on_the_disk_is_a_gap(log):
    recorder = RunRecorder(log, JournalConfig(), Run(command="data set", started_at=now()), ["blog"])
    recorder.begin()
    anchor = append_changes(recorder.store, [{"kind": "intent", "operation": 0, "databases": ["main"]}])
    outcome = {
        "kind": "outcome",
        "operation": anchor.sequence,
        "databases": ["main"],
        "padding": "x" * 2_000_000,
    }
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(JournalUnavailableError, match=f"lacks the result of operation {anchor.sequence}"):
            recorder.finish(recorder.run, (), [outcome])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list_codes(log) == [("info", "audit-open"), ("warning", "audit-gap")]
    append(log)
    assert sorted(list_codes(log)) == [("info", "audit-open"), ("warning", "audit-gap")]


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_other_kinds_of_files_are_refused(tmp_path, kind):
    path = tmp_path / FILE_NAME
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(AuditUnavailableError):
        append(tmp_path)
    with pytest.raises(AuditUnavailableError):
        verify_log(tmp_path)


#: Values as codecs of engines read them.
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.integers().map(Decimal)
)


@given(VALUES)
def test_values_survive_the_log(value):
    line, _ = seal({"value": codec.to_json(value), "zone": "x"})
    assert is_sealed(line)
    stored = msgspec.json.Decoder(float_hook=Decimal).decode(line)["value"]
    assert codec.identify(codec.from_json(stored)) == codec.identify(value)


def test_equal_numbers_with_other_digits_are_other_values():
    values = [0, 1, True, Decimal("1.0"), Decimal("0.1"), Decimal("0.10"), 0.0, -0.0, "1", b"1"]
    assert len({codec.identify(value) for value in values}) == len(values)
    assert codec.identify(0.5) == codec.identify(Decimal("0.5"))


def test_values_of_older_records_are_decoded():
    old = (
        {"$time": "2026-01-31T12:00:00+00:00"},
        {"$bytes": "AP8="},
        {"$surrogates": "Yf8="},
        {"$integer": "9" * 30},
    )
    expected = [datetime(2026, 1, 31, 12, tzinfo=UTC), b"\x00\xff", "a\udcff", int("9" * 30)]
    assert list(map(decode_old_value, old)) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_files_that_another_user_planted_are_refused(tmp_path, monkeypatch):
    target = tmp_path / "target"
    target.write_bytes(b"content of root\n")
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    monkeypatch.setenv("DBCTL_STATE", str(state))
    for name in ("events.sqlite", "events.sqlite-wal"):
        (state / name).symlink_to(target)
        os.lchown(state / name, 12345, 12345)
        with pytest.raises(JournalUnavailableError, match="another user"), EventStore(state).writing():
            pass
        (state / name).unlink()
    (state / "locks").symlink_to(tmp_path)
    os.lchown(state / "locks", 12345, 12345)
    assert main(["stats", "tables", "--url", str(target)]) == 4  # recorded runs lock a file there
    assert main(["integrity", "check", "--url", str(target)]) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "target"]
    append(state)
    os.chown(state / FILE_NAME, 12345, 12345)
    with pytest.raises(AuditUnavailableError, match="another user"):
        append(state)
    (state / GAP_NAME).symlink_to(tmp_path / "new")
    note_gap(state)
    assert not (tmp_path / "new").exists()
    assert target.read_bytes() == b"content of root\n"
    state.chmod(0o700)
    append(state)  # no other user could have created it


def end_run(folder, title):
    """Record a run with one operation, whose outcome is recorded with the end of the run."""
    run_recorder = RunRecorder(folder, JournalConfig(), Run(command=title, started_at=now()), ["blog"])
    run_recorder.begin()
    first = append_changes(
        EventStore(folder), [{"kind": "intent", "operation": 0, "databases": ["main"], "command": title}]
    )
    outcome = {"kind": "outcome", "operation": first.sequence, "databases": ["main"], "result": "committed"}
    run = structs.replace(run_recorder.run, result="ok", exit_code=0)
    run_recorder.finish(run, changes=[outcome])
    publish(folder, parse_anchor(run_recorder.run.audit))


@pytest.mark.slow
def test_outcome_and_end_of_the_run_are_one_transaction(tmp_path):
    """A process that is killed before any statement has recorded both or none."""
    results = set()
    for step in count(1):
        folder, title = tmp_path, f"users update {step}"
        is_killed = run_killed(step, partial(end_run, folder, title))
        end_run(folder, "users list")
        runs = [run for run in list_runs(folder, RunFilter(limit=2)).items if run.command == title]
        (items,) = [list_operations(folder, OperationFilter(command=title, limit=2)).items]
        results.add(("".join(run.result for run in runs), "".join(item.result for item in items)))
        assert {severity for severity, _ in list_codes(folder)} <= {"info"}
        if not is_killed:
            break
    assert results == {("", ""), ("interrupted", ""), ("interrupted", "open"), ("ok", "committed")}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"sysop", '"sysop"'),
        (b"\x00\xff", r"\x00ff"),
        (b"\xef\xbf\xbd", '"\ufffd"'),
        ("sysop", '"sysop"'),
        (None, "null"),
    ],
)
def test_bytes_are_described_as_text_or_in_hexadecimal(value, text):
    assert describe_value(codec.to_json(value)) == text
