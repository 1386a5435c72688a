"""Verify the changes: hashes, their chain, and the anchors outside of the event store."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.operations import JournalCorruptError
from dbctl.model import Finding, format_count
from dbctl.services.events.changes import log as anchor_file
from dbctl.services.events.changes.export import (
    Line,
    find_first_number,
    find_unimported,
    read_file,
    read_lines,
)
from dbctl.services.events.changes.log import COLUMNS, GAP_NAME, list_columns, open_changes
from dbctl.services.events.changes.records import (
    NO_HASH,
    Anchor,
    AuditChecked,
    StoredRecord,
    decode_exactly,
    decode_record,
    is_sealed,
    parse_anchor,
)
from dbctl.services.events.store import FILE_NAME, IMPORTED, LEGACY_LOG

if TYPE_CHECKING:
    from dbctl.sqlite_library import Database

#: Problems that are listed; a log that was replaced completely has one for each record.
MAX_FINDINGS = 100
GAP_HINT = Remedy(
    "Later changes are recorded. If the journal could be written, it has the runs; list them with: `runs list`"
)
IMPORTED_HINT = Remedy(
    "They are in the same directory, with the suffix .imported; verify them with: `audit verify FILE`"
)
ANCHOR_HINT = "The next change writes it again. Compare the log with an exported copy."
UNREADABLE_HINT = Remedy(
    "Nothing replaces it. Copy the files, and verify an exported copy with: `audit verify FILE`"
)


def verify_log(
    folder: Path,
    *,
    anchors: Iterable[Anchor] = (),
    errors: Iterable[DbctlError] = (),
    others: Iterable[Path] = (),
    stored: Sequence[Anchor] = (),
) -> AuditChecked:
    """Return the problems of the log, compared with its ends in the runs, in the file next to it, and with others.

    Args:
        folder: the directory for state.
        anchors: its ends in the manifests of backups.
        errors: why some of them are not known.
        others: exported copies, or files of an older version.
        stored: the ends that the user stored; records before the newest may be gone.

    Raises:
        AuditUnavailableError: a file, or the store, cannot be read.
    """
    path = folder / anchor_file.ANCHOR_NAME
    known = anchor_file.read_anchor_file(folder)
    checker = _Checker(str(folder / FILE_NAME), [*anchors, *stored, *known[:1]], stored, others)
    checker.check_sources(folder)
    is_expected = bool(known) or any(folder.glob(f"{LEGACY_LOG}*{IMPORTED}"))
    findings = [*checker.findings, *checker.check_end(is_expected=is_expected)]
    if any(folder.glob(f"{GAP_NAME}*")):
        message = "changes after the last record are not in the log: it could not be written"
        findings.append(
            Finding(checker.target, "warning", "audit-gap", message, GAP_HINT.write(), checker.target)
        )
    findings += find_unimported(folder, checker.target)
    if not known and os.path.lexists(path):
        message = f"whether records are missing at the end is less certain: {path} contains no anchor"
        # A power failure may leave an empty file, because it is not synced.
        is_empty = not (path.is_symlink() or path.lstat().st_size)
        severity: Literal["warning", "error"] = "warning" if is_empty else "error"
        findings.append(
            Finding(checker.target, severity, "audit-unanchored", message, ANCHOR_HINT, str(path))
        )
    for error in errors:
        message = f"the anchors in the manifests of backups are not known: {error}"
        findings.append(
            Finding(checker.target, "warning", "audit-unanchored", message, error.hint, checker.target)
        )
    if len(findings) > MAX_FINDINGS:  # many warnings must not hide an error
        findings.sort(key=lambda finding: finding.severity != "error")
    return AuditChecked(
        checked=checker.count,
        unit="record",
        findings=findings[:MAX_FINDINGS],
        anchor=checker.describe_anchor(),
        files=[str(path) for path in checker.files],
    )


ROTATED_HINT = Remedy("Pass an export with them, or the anchor of record {record}, to: `audit verify FILE`")
MISSING_HINT = Remedy("Move it back, or verify an exported copy with: `audit verify FILE`")
LOST_HINT = Remedy(
    "Compare it with the backups of the database. If you restored the log, accept its newest end with: `audit verify --anchor ANCHOR`"
)
#: The hint about records that only a copy has.
TRUNCATED_HINT = "Keep the copy, and compare it with the backups of the database."
#: The hint about a file that repeats records of the log.
COPY_HINT = "Their hashes were compared. Pass only files that were moved out of the folder of the log."


def count_problems(paths: Sequence[Path], anchors: Iterable[Anchor]) -> int:
    """Return the errors in files of an older version, also compared with the anchors of its runs, that the store may not show later."""
    checker = _Checker("", anchors, (), paths)
    for path in paths:
        checker.check_file(path)
    findings = [*checker.findings, *checker.check_end(is_expected=False)]
    return sum(finding.severity == "error" and finding.code != "audit-rotated" for finding in findings)


class _Checker:
    """The state of the verification between two lines."""

    def __init__(
        self, target: str, anchors: Iterable[Anchor], stored: Sequence[Anchor], others: Iterable[Path]
    ) -> None:
        self.target = target
        self._stored = {(anchor.sequence, anchor.hash) for anchor in stored}
        self._anchors: dict[int, set[Anchor]] = {}
        for anchor in anchors:
            self._add_anchor(anchor)
        self._others = list(others)  #: files outside of the store, which may repeat records
        self._resolved: Collection[Path] = {path.resolve() for path in self._others}
        self.files: list[Path] = []  #: that were read
        self.findings: list[Finding] = []
        self.count = 0
        self.last: Anchor | None = None
        self._has_store, self._is_readable = False, True
        self._store = ""  #: the id of the store
        self._foreign: list[Anchor] = []  #: anchors of other logs
        self._logs: list[str] = []  #: the stores that records begin
        self._lost = set[str]()  #: anchors that the log did not have when it was written
        self._first_sequence = 0
        self._invalid: list[Line] = []  #: lines since the last valid record
        self._open: dict[int, set[str]] = {}  #: databases without a result, by operation
        #: hash and file by number of the record, if there are others
        self._seen: dict[int, tuple[str, Path]] = {}
        self._copies: dict[Path, list[int]] = {}  #: numbers of the records that a further file has too
        self._lacking: dict[Path, int] = {}  #: first record that only the copy has, by copy

    def check_sources(self, folder: Path) -> None:
        """Check the store and the files by their first record; a copy of the store follows it.

        Raises:
            AuditUnavailableError: one cannot be read.
        """
        files = sorted((find_first_number(path), path) for path in self._others)
        for path in (path for number, path in files if not number):
            self._add("audit-missing", f"{path} has no record", Line(path, 1, b""))
        try:
            with open_changes(folder) as db, self._note_damage():
                first = None
                if db:
                    db.conn.text_factory = lambda content: content.decode(errors="backslashreplace")
                    (first,) = db.execute("select min(seq) from changes").fetchone()
                while files and (first is None or files[0][0] < first):
                    self.check_file(files.pop(0)[1])
                if db:
                    self.files.append(folder / FILE_NAME)
                    with self._note_damage():
                        sql = "select value from meta where name = 'store'"
                        (self._store,) = db.execute(sql).fetchone() or ("",)
                    with self._note_damage():
                        self._read_runs(db)
                for line in read_lines(db, folder, columns=", ".join(COLUMNS)):
                    self._has_store = True
                    self.check_line(line)
        except JournalCorruptError as error:
            self._report_damage(str(error))
        for _, path in files:
            self.check_file(path)

    @contextmanager
    def _note_damage(self) -> Iterator[None]:
        """Report a table or a column that is missing, which SQLite does not regard as damage."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_ERROR:
                raise
            self._report_damage(f"{self.target} is damaged: {error}")

    def _report_damage(self, message: str) -> None:
        self._is_readable = False
        hint = UNREADABLE_HINT.write()
        self.findings.append(Finding(self.target, "error", "audit-unreadable", message, hint, self.target))

    def _read_runs(self, db: Database) -> None:
        sql = "select id from runs where not json_valid(cast(record as text)) limit 1"
        if row := db.execute(sql).fetchone():
            self._report_damage(f"{self.target} is damaged: the record of run {row[0]} is no JSON")
        for anchor in anchor_file.list_run_anchors(db):
            self._add_anchor(anchor)

    def _add_anchor(self, anchor: Anchor) -> None:
        self._anchors.setdefault(anchor.sequence, set()).add(anchor)

    def check_file(self, path: Path) -> None:
        """Check the lines of a file; raises as ``read_file``."""
        self.files.append(path)
        for line in read_file(path):
            self.check_line(line)

    def describe_anchor(self) -> str:
        """Return the anchor of the last record; empty: there is none."""
        if self.last is None:
            return ""
        return str(
            Anchor(sequence=self.last.sequence, hash=self.last.hash, log=self._logs[-1] if self._logs else "")
        )

    def check_line(self, line: Line) -> None:
        record = decode_record(line.content)
        if record is None:
            self._invalid.append(line)
            return
        is_intact = is_sealed(line.content.removesuffix(b"\n"))
        if not is_intact or line.columns not in (None, list_columns(record)):
            self._add("audit-edited", f"record {record.sequence} was edited", line)
        if self._is_copy(record, line):
            return
        self.count += 1
        self._check_statements(record, line)
        self._check_interruption(line, is_intact=is_intact)
        self._check_position(record, line)
        for anchor in self._anchors.pop(record.sequence, ()):
            if anchor.hash != record.hash:
                reason = f"record {record.sequence} differs from the anchor {anchor.hash[:12]}: the log was written again"
                self._add("audit-replaced", reason, line)
            elif anchor.log not in ("", *self._logs):
                self._foreign.append(anchor)
        if record.kind == "intent":
            self._open[record.operation] = set(record.databases)
        elif record.kind == "outcome" and record.operation in self._open:
            self._open[record.operation] -= set(record.databases)
            if not self._open[record.operation]:
                del self._open[record.operation]
        self.last = Anchor(sequence=record.sequence, hash=record.hash)

    def _check_statements(self, record: StoredRecord, line: Line) -> None:
        """Check what a record states about the log."""
        if record.gap:
            message = f"changes before record {record.sequence} are not in the log: it could not be written"
            self._add("audit-gap", message, line, severity="warning", hint=GAP_HINT.write())
        if record.lost and record.lost not in self._lost:
            self._check_loss(record, line)
        if record.problems:
            message = f"the files of an older version had {format_count(record.problems, 'problem')} when they were imported"
            self._add("audit-edited", message, line, hint=IMPORTED_HINT.write())
        if record.store:
            self._logs.append(record.store)

    def _check_loss(self, record: StoredRecord, line: Line) -> None:
        """Report an anchor that the log contradicted; who passes a later end accepts the log since then."""
        self._lost.add(record.lost)
        anchor = parse_anchor(record.lost)
        is_other = anchor is None or anchor.log not in ("", *self._logs) or anchor.sequence < record.sequence
        code, kind = ("audit-replaced", "replaced") if is_other else ("audit-truncated", "truncated")
        message = f"before record {record.sequence}, the log lacked the anchor {record.lost}: it was {kind}"
        is_accepted = any(sequence >= record.sequence for sequence, _ in self._stored)
        self._add(code, message, line, severity="warning" if is_accepted else "error", hint=LOST_HINT.write())

    def _is_copy(self, record: StoredRecord, line: Line) -> bool:
        """Whether an earlier file has the record too: the line is one of an export or of another copy, which is compared."""
        if not self._others:
            return False
        digest, path = self._seen.setdefault(record.sequence, (record.hash, line.path))
        if path == line.path:
            if path in self._copies:
                self._lacking.setdefault(path, record.sequence)
            return False
        copy = line.path if line.path.resolve() in self._resolved else path
        self._copies.setdefault(copy, []).append(record.sequence)
        self._invalid = []  # an export omits what is no record
        numbers = self._copies[copy]
        if copy == line.path and numbers[-2:-1] not in ([], [record.sequence - 1]):
            message = f"record {record.sequence} of the copy follows {numbers[-2]}: records are missing or in another order"
            self._add("audit-missing", message, line)
        if digest != record.hash:
            self._add("audit-edited", f"record {record.sequence} differs from that of {path}", line)
        return True

    def check_end(self, *, is_expected: bool) -> Iterator[Finding]:
        """Yield the problems that only the end shows; ``is_expected``: whether there must be a store."""
        if self._invalid:
            yield self._describe_end()
        for path, sequences in self._copies.items():
            if path in self._lacking and self._is_readable:
                message = (
                    f"the log lacks record {self._lacking[path]}, which its copy {path} has: it was truncated"
                )
                yield self._describe("audit-truncated", message, TRUNCATED_HINT)
            if sequences == [*range(sequences[0], sequences[-1] + 1)]:
                message = f"{path} is an export or another copy: the log has its records {sequences[0]} to {sequences[-1]} too"
                yield Finding(self.target, "info", "audit-copy", message, COPY_HINT, self.target)
        if self._is_readable:
            yield from self._compare_anchors(is_expected=is_expected)
        if self._open:
            numbers = ", ".join(map(str, sorted(self._open)[:10]))
            message = f"{format_count(len(self._open), 'operation')} without a result: {numbers}"
            hint = "Their process is running, or ended around the commit."
            yield Finding(self.target, "info", "audit-open", message, hint, self.target)

    def _compare_anchors(self, *, is_expected: bool) -> Iterator[Finding]:
        """Yield what anchors say that no record has."""
        last = self.last.sequence if self.last else 0
        later = [anchor for group in self._anchors.values() for anchor in group]
        later = [anchor for anchor in later if anchor.sequence >= max(self._first_sequence, 1)]
        foreign = [*self._foreign, *(anchor for anchor in later if anchor.log not in ("", *self._logs))]
        newest = max((anchor.sequence for anchor in later), default=0)
        if not self._has_store and (newest > last or is_expected):
            count = max(newest, last) or "those of the imported files"
            message = f"the log has no records, but had {count}: it was deleted or moved away"
            yield self._describe("audit-missing", message, MISSING_HINT.write())
        elif foreign:
            message = f"the log is not that of the anchor {foreign[0]}: it was deleted, and another one began"
            yield self._describe("audit-replaced", message, TRUNCATED_HINT)
        elif self._has_store and self._store not in self._logs:
            message = "no record begins this store: its records, or its id, were written again"
            yield self._describe("audit-replaced", message, TRUNCATED_HINT)
        elif newest > last:
            message = f"the log ends with record {last}, but had {newest}: it was truncated"
            yield self._describe("audit-truncated", message, TRUNCATED_HINT)

    def _describe(self, code: str, message: str, hint: str) -> Finding:
        return Finding(self.target, "error", code, message, hint, self.target)

    def _describe_end(self) -> Finding:
        """Return the problem of bytes after the last record."""
        line = self._invalid[-1]
        is_incomplete = len(self._invalid) == 1 and line.columns is None and not line.content.endswith(b"\n")
        # A record that was edited after it was complete ends with its newline.
        severity, code = ("warning", "audit-incomplete") if is_incomplete else ("error", "audit-edited")
        message = "the last record is incomplete" if is_incomplete else "the last line is not a record"
        hint = "Copy or export the records again." if is_incomplete else ""
        return Finding(self.target, severity, code, message, hint, str(line.path), line.number)  # type: ignore[arg-type]

    def _check_interruption(self, line: Line, *, is_intact: bool) -> None:
        """Check the lines before a record that are no records: the record declares those of an interrupted writer."""
        if line.columns and not self._invalid:  # the import of a file leaves the incomplete bytes out
            return
        declared: Mapping[str, object] = (
            decode_exactly(line.content).get("interrupted", {}) if is_intact else {}
        )
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
                hint = ROTATED_HINT.write(facts={"record": record.sequence - 1})
                message += ": the log was moved away or deleted, and another one began"
                is_continued = (record.sequence - 1, record.previous) in self._stored
                severity = "warning" if is_continued else "error"
                code = "audit-replaced" if record.store else "audit-rotated"
                self._add(code, message, line, severity=severity, hint=hint)
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
