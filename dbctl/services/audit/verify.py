"""Verify the audit log: hashes, their chain, and the anchors in the journal."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from dbctl.errors import DbctlError
from dbctl.model import Closing, Finding, Findings, format_count
from dbctl.services.audit.files import (
    FILE_NAME,
    GAP_NAME,
    Line,
    decode_line,
    is_sealed,
    list_files,
    read_interruption,
    read_lines,
)
from dbctl.services.audit.records import NO_HASH, Anchor, StoredRecord

#: Problems that are listed; a log that was replaced completely has one for each record.
MAX_FINDINGS = 100
GAP_HINT = "Later changes are recorded. If the journal could be written, it has the runs: dbctl runs list"


class AuditChecked(Findings, frozen=True, kw_only=True):
    """Result of ``audit verify``."""

    anchor: str = ""  #: ``SEQUENCE:HASH`` of the last record, to be stored elsewhere
    files: Sequence[str] = ()

    @property
    def closing(self) -> Closing:
        problems = [format_count(len(self.findings), "problem")] if self.findings else ["no problems"]
        anchor = [f"anchor {self.anchor}"] if self.anchor else []
        return Closing(f"Checked {format_count(self.checked, 'record')}", [*problems, *anchor])


def verify_log(
    folder: Path,
    *,
    anchors: Iterable[Anchor] = (),
    journal_error: DbctlError | None = None,
    others: Iterable[Path] = (),
    target: str = "",
    stored: Anchor | None = None,
) -> AuditChecked:
    """Return the problems of the log.

    Args:
        folder: the directory for state.
        anchors: ends of the log that were stored elsewhere.
        journal_error: why the ends that the journal stores are not known.
        others: rotated files in other folders.
        target: the name of the log in findings; default: its path.
        stored: the anchor that the user stored; files before it may be gone.

    Raises:
        AuditUnavailableError: a file cannot be read.
    """
    others = list(others)
    checker = _Checker(target or str(folder / FILE_NAME), anchors, journal_error, stored)
    checker.others = {path.resolve() for path in others}
    for line in read_lines(folder, others):
        checker.check_line(line)
    findings = [*checker.findings, *checker.check_end()]
    if (folder / GAP_NAME).exists():
        message = "changes after the last record are not in the log: it could not be written"
        findings.append(Finding(checker.target, "warning", "audit-gap", message, GAP_HINT, checker.target))
    return AuditChecked(
        checked=checker.count,
        unit="record",
        findings=findings[:MAX_FINDINGS],
        anchor=str(checker.last) if checker.last else "",
        files=[str(path) for path in list_files(folder, others)],
    )


#: The hint about records that only a copy has.
TRUNCATED_HINT = "Keep the copy, and compare it with the backups of the database."
#: The hint about a file that repeats records of the log.
COPY_HINT = "Their hashes were compared. Pass only files that were moved out of the folder of the log."


class _Checker:
    """The state of the verification between two lines."""

    def __init__(
        self,
        target: str,
        anchors: Iterable[Anchor],
        journal_error: DbctlError | None,
        stored: Anchor | None,
    ) -> None:
        self.target, self._journal_error, self._stored = target, journal_error, stored
        self._anchors: dict[int, set[str]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor.sequence, set()).add(anchor.hash)
        self.findings: list[Finding] = []
        self.count = 0
        self.last: Anchor | None = None
        self._first_sequence = 0
        self._invalid: list[Line] = []  #: lines since the last valid record
        self._open: dict[int, set[str]] = {}  #: databases without a result, by operation
        self.others: Collection[Path] = ()  #: files outside of the folder, which may repeat records
        self._seen: dict[
            int, tuple[str, Path]
        ] = {}  #: hash and file by number of the record, if there are others
        self._copies: dict[Path, list[int]] = {}  #: numbers of the records that a further file has too
        self._lacking: dict[Path, int] = {}  #: first record that only the copy has, by copy

    def check_line(self, line: Line) -> None:
        """Check one line."""
        record = decode_line(line.content)
        if record is None:
            self._invalid.append(line)
            return
        is_intact = is_sealed(line.content)
        if not is_intact:
            self._add("audit-edited", f"record {record.sequence} was edited", line)
        if self._is_copy(record, line):
            return
        self.count += 1
        if record.gap:
            message = f"changes before record {record.sequence} are not in the log: it could not be written"
            self._add("audit-gap", message, line, severity="warning", hint=GAP_HINT)
        self._check_interruption(line, is_intact=is_intact)
        self._check_position(record, line)
        for digest in self._anchors.pop(record.sequence, ()):
            if digest != record.hash:
                reason = f"record {record.sequence} differs from the anchor {digest[:12]}: the log was written again"
                self._add("audit-replaced", reason, line)
        if record.kind == "intent":
            self._open[record.operation] = set(record.databases)
        elif record.kind == "outcome" and record.operation in self._open:
            self._open[record.operation] -= set(record.databases)
            if not self._open[record.operation]:
                del self._open[record.operation]
        self.last = Anchor(sequence=record.sequence, hash=record.hash)

    def _is_copy(self, record: StoredRecord, line: Line) -> bool:
        """Whether an earlier file has the record too: the line is one of an export or of another copy, which is compared."""
        if not self.others:
            return False
        digest, path = self._seen.setdefault(record.sequence, (record.hash, line.path))
        if path == line.path:
            if path in self._copies:
                self._lacking.setdefault(path, record.sequence)
            return False
        copy = line.path if line.path in self.others else path
        self._copies.setdefault(copy, []).append(record.sequence)
        self._invalid = []  # an export omits what is no record
        if digest != record.hash:
            self._add("audit-edited", f"record {record.sequence} differs from that of {path}", line)
        return True

    def check_end(self) -> Iterator[Finding]:
        """Yield the problems that only the end shows."""
        if self._invalid:
            yield self._describe_end()
        for path, sequences in self._copies.items():
            if path in self._lacking:
                message = (
                    f"the log lacks record {self._lacking[path]}, which its copy {path} has: it was truncated"
                )
                yield Finding(self.target, "error", "audit-truncated", message, TRUNCATED_HINT, self.target)
            message = f"{path} is an export or another copy: the log has its records {sequences[0]} to {sequences[-1]} too"
            yield Finding(self.target, "info", "audit-copy", message, COPY_HINT, self.target)
        if self._journal_error:
            message = f"whether records are missing at the end is not known: {self._journal_error}"
            hint = self._journal_error.hint
            yield Finding(self.target, "error", "audit-unanchored", message, hint, self.target)
        last = self.last.sequence if self.last else 0
        missing = [sequence for sequence in self._anchors if sequence >= max(self._first_sequence, 1)]
        if missing and max(missing) > last:
            message = f"the log ends with record {last}, but had {max(missing)}: it was truncated, deleted or moved away"
            hint = "If it was moved, pass the file: dbctl audit verify FILE"
            yield Finding(self.target, "error", "audit-truncated", message, hint, self.target)
        if self._open:
            numbers = ", ".join(map(str, sorted(self._open)[:10]))
            message = f"{format_count(len(self._open), 'operation')} without a result: {numbers}"
            hint = "Their process is running, or ended around the commit."
            yield Finding(self.target, "info", "audit-open", message, hint, self.target)

    def _describe_end(self) -> Finding:
        """Return the problem of bytes after the last record."""
        line = self._invalid[-1]
        is_incomplete = len(self._invalid) == 1 and not line.content.endswith(b"\n")
        # A record that was edited after it was complete ends with its newline.
        severity, code = ("warning", "audit-incomplete") if is_incomplete else ("error", "audit-edited")
        message = "the last record is incomplete" if is_incomplete else "the last line is not a record"
        hint = "A writer was interrupted. The next record states it." if is_incomplete else ""
        return Finding(self.target, severity, code, message, hint, str(line.path), line.number)  # type: ignore[arg-type]

    def _check_interruption(self, line: Line, *, is_intact: bool) -> None:
        """Check the lines before a record that are no records: the record declares those of an interrupted writer."""
        declared: Mapping[str, object] = read_interruption(line.content) if is_intact else {}
        content = b"".join(invalid.content for invalid in self._invalid)
        actual = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} if content else {}
        if actual != declared:
            where = self._invalid[0] if self._invalid else line
            self._add("audit-edited", "a line was edited, deleted or inserted", where)
        self._invalid = []

    def _check_position(self, record: StoredRecord, line: Line) -> None:
        """Check the number and the previous hash of a record."""
        if self.last is None:
            self._first_sequence = record.sequence
            if record.sequence == 1 and record.previous == NO_HASH and record.kind == "start":
                return
            message = f"records 1 to {record.sequence - 1} are missing"
            if record.kind == "start":
                hint = f"If the file was moved away, pass it, or the anchor of record {record.sequence - 1}: dbctl audit verify FILE"
                message += ": an earlier file was moved away or deleted"
                is_continued = self._stored == Anchor(sequence=record.sequence - 1, hash=record.previous)
                severity = "warning" if is_continued else "error"
                self._add("audit-rotated", message, line, severity=severity, hint=hint)
            else:
                self._add("audit-missing", message, line)
        elif record.sequence != self.last.sequence + 1:
            kind = "missing" if record.sequence > self.last.sequence else "in another order"
            message = f"record {record.sequence} follows {self.last.sequence}: records are {kind}"
            code = "audit-missing" if kind == "missing" else "audit-reordered"
            self._add(code, message, line)
        elif record.previous != self.last.hash:
            message = f"record {record.sequence} does not continue record {self.last.sequence}"
            self._add("audit-broken", message, line)

    def _add(self, code: str, message: str, line: Line, *, severity: str = "error", hint: str = "") -> None:
        hint = hint or "Compare with a copy of the log; the database itself is not affected."
        finding = Finding(self.target, severity, code, message, hint, str(line.path), line.number)  # type: ignore[arg-type]
        self.findings.append(finding)
