"""The file of the audit log: order, concurrency, interrupted writers, and every kind of tampering."""

from __future__ import annotations

import gzip
import os
import resource
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.cli.main import main
from dbctl.engines.sql import codec
from dbctl.errors import AuditUnavailableError, JournalUnavailableError
from dbctl.services.audit import AuditLog, decode_old_value, verify_log
from dbctl.services.audit.files import FILE_NAME, GAP_NAME, is_sealed, seal
from dbctl.services.events.store import EventStore

RECORDS = 6


def open_log(folder, anchor=None):
    return AuditLog(folder, read_anchor=lambda: anchor)


def append(folder, count=RECORDS, anchor=None):
    """Append operations with their results; return the last anchor."""
    log = open_log(folder, anchor)
    for _ in range(count // 2):
        first = log.append({"kind": "intent", "operation": 0, "databases": ["main"]}, sync=False)
        outcome = {"kind": "outcome", "operation": first.sequence, "databases": ["main"]}
        anchor = log.append({**outcome, "result": "committed"}, sync=False)
    return anchor


def list_codes(folder, **options):
    return [(finding.severity, finding.code) for finding in verify_log(folder, **options).findings]


def read_lines(folder):
    return (folder / FILE_NAME).read_bytes().splitlines(keepends=True)


def write_lines(folder, lines):
    (folder / FILE_NAME).write_bytes(b"".join(lines))


@pytest.fixture
def log(tmp_path):
    append(tmp_path)
    return tmp_path


def test_intact_log_has_no_problems(log):
    result = verify_log(log)
    assert (result.checked, result.findings) == (RECORDS + 1, [])
    assert result.anchor.startswith(f"{RECORDS + 1}:")


@pytest.mark.parametrize("position", range(RECORDS + 1))
@pytest.mark.parametrize(
    "change", ["edit", "delete", "duplicate", "swap", "insert", "blank", "space", "truncate"]
)
def test_every_tampering_is_detected(log, position, change):
    anchor = verify_log(log).anchor
    lines = read_lines(log)
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
    write_lines(log, lines)
    sequence, _, digest = anchor.partition(":")
    from dbctl.services.audit import Anchor

    anchors = [Anchor(sequence=int(sequence), hash=digest)]
    assert "error" in {severity for severity, _ in list_codes(log, anchors=anchors)}


def test_log_that_was_written_again_differs_from_the_anchor(log, tmp_path):
    last = append(log)
    (log / FILE_NAME).unlink()
    open_log(log).append({"kind": "intent", "operation": 0, "user": "mallory"}, sync=False)
    append(log, RECORDS * 2)
    assert "audit-replaced" in {code for _, code in list_codes(log, anchors=[last])}


def test_incomplete_record_is_declared_by_the_next_one(log):
    lines = read_lines(log)
    write_lines(log, [*lines, lines[-1][:40]])
    assert list_codes(log) == [("warning", "audit-incomplete")]
    append(log)
    assert list_codes(log) == []
    append(log)
    assert verify_log(log).checked == 3 * RECORDS + 1
    content = (log / FILE_NAME).read_bytes()
    (log / FILE_NAME).write_bytes(content.replace(lines[-1][:40] + b"\n", lines[-1][:39] + b"x\n"))
    assert list_codes(log) == [("error", "audit-edited")]


def test_file_of_garbage_is_retained_and_declared(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"\0" * 100_000)
    append(tmp_path)
    assert list_codes(tmp_path) == []


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a": "\xff"', b"{"])
def test_line_that_is_no_json_is_reported_and_continued(log, content):
    lines = read_lines(log)
    broken = lines[-1].rstrip(b"}\n") + b', "added": ' + content + b"\n"
    write_lines(log, [*lines, broken])
    assert list_codes(log) == [("error", "audit-edited")]
    append(log)
    assert verify_log(log).checked == 2 * RECORDS + 1


def test_record_larger_than_a_block_is_found_again(tmp_path):
    log = open_log(tmp_path)
    log.append({"kind": "intent", "operation": 0, "arguments": ["x" * 1_000_000]}, sync=True)
    assert append(tmp_path).sequence == RECORDS + 2


def test_rotated_file_is_reported_until_it_is_passed(log, tmp_path_factory):
    last = append(log)
    archive = tmp_path_factory.mktemp("archive") / "old"
    (log / FILE_NAME).rename(archive)
    assert list_codes(log, anchors=[last]) == [("error", "audit-truncated")]
    newest = append(log, anchor=last)
    assert list_codes(log, anchors=[last, newest]) == [("error", "audit-rotated")]
    assert list_codes(log, anchors=[last, newest], stored=last) == [("warning", "audit-rotated")]
    assert list_codes(log, anchors=[last, newest], others=[archive]) == []
    archive.rename(log / f"{FILE_NAME}.1")
    result = verify_log(log, anchors=[last, newest])
    assert (result.findings, len(result.files)) == ([], 2)


def test_symbolic_link_is_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"content of root\n")
    (tmp_path / FILE_NAME).symlink_to(target)
    with pytest.raises(AuditUnavailableError, match="symbolic link"):
        append(tmp_path)
    assert target.read_bytes() == b"content of root\n"


def test_compressed_file_is_read_in_its_place(log):
    last = append(log)
    rotated = log / f"{FILE_NAME}.1.gz"
    rotated.write_bytes(gzip.compress((log / FILE_NAME).read_bytes()))
    (log / FILE_NAME).unlink()
    append(log, anchor=last)
    result = verify_log(log, anchors=[last])
    assert (result.checked, result.findings) == (3 * RECORDS + 2, [])
    rotated.write_bytes(rotated.read_bytes()[:-20])
    with pytest.raises(AuditUnavailableError):
        verify_log(log)


def test_eight_concurrent_writers_lose_no_record(tmp_path):
    pids = []
    for _ in range(8):
        pid = os.fork()
        if not pid:
            try:
                append(tmp_path, 40)
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 8
    result = verify_log(tmp_path)
    assert (result.checked, result.findings) == (8 * 40 + 1, [])


def test_full_disk_leaves_a_declared_part(log):
    size = (log / FILE_NAME).stat().st_size
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, size + 50))
        try:
            append(log)
        except AuditUnavailableError:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert list_codes(log) == [("warning", "audit-incomplete")]
    append(log)
    assert list_codes(log) == []


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
    (state / FILE_NAME).touch()
    os.chown(state / FILE_NAME, 12345, 12345)
    with pytest.raises(AuditUnavailableError, match="another user"):
        append(state)
    (state / GAP_NAME).symlink_to(tmp_path / "new")
    open_log(state).note_gap()
    assert not (tmp_path / "new").exists()
    assert target.read_bytes() == b"content of root\n"
    state.chmod(0o700)
    append(state)  # no other user could have created it
