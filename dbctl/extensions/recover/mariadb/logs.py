"""The archived binary logs of a server: what has to be replayed from a position until a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import NamedTuple

from dbctl import signals
from dbctl.errors.connection import report_file_errors
from dbctl.extensions.recover.errors import (
    RecoveryDamagedError,
    RecoveryMissingError,
    RecoveryRefusedError,
    RecoveryTimeError,
)
from dbctl.extensions.recover.mariadb import events
from dbctl.extensions.recover.mariadb.events import (
    DamagedLogError,
    EncryptedLogError,
    Event,
    EventReader,
    Gtid,
)
from dbctl.model import Struct

COPY = "mariadb-binlog --read-from-remote-server --raw"
#: In the name of a part of a log that begins in the middle, before its position there.
PART = "@"
_GTID = re.compile(r"(\d+)-(\d+)-(\d+)")
#: Seconds by which the clock of a server may be ahead.
CLOCK_TOLERANCE = 3600
_COMMITS = ("COMMIT", "ROLLBACK")


class LogPosition(Struct, frozen=True, kw_only=True):
    """A position in the binary logs of a server."""

    file: str
    position: int
    gtids: Mapping[int, Gtid]  #: the last transaction before it, by domain
    server: int  #: its ``server_id``
    time: int  #: of the backup, in seconds, by the clock of dbctl

    def __str__(self) -> str:
        return f"{self.file}:{self.position}"


class LogPart(Struct, frozen=True, kw_only=True):
    """The beginning of a log that is replayed."""

    path: Path
    bytes: int
    shift: int  #: see ``EventReader.shift``


class LogRange(Struct, frozen=True, kw_only=True):
    """The transactions between a position and a time."""

    parts: Sequence[LogPart]  #: in their order; the last one ends after the last transaction
    start: int  #: in the file of the first of them
    transactions: int
    last_time: int  #: of the last of them, in seconds; 0 without one

    @property
    def bytes(self) -> int:
        """The bytes of all parts."""
        return sum(part.bytes for part in self.parts)

    @property
    def end(self) -> str:
        """Where it ends, as ``FILE:POSITION``."""
        part = self.parts[-1]
        return f"{part.path.name.partition(PART)[0]}:{part.bytes + part.shift}"


class Transaction(NamedTuple):
    """A transaction, or a statement without one, in a log."""

    start: int
    end: int
    time: int  #: in seconds: when its COMMIT began, or a statement that is its own transaction
    gtid: Gtid
    is_complete: bool


class PositionLaterError(Exception):
    """The position is after the time."""


def split_position(text: str) -> tuple[str, int]:
    """Return the name of the log, and the position in it, of ``FILE:POSITION``."""
    file, _, position = text.rpartition(":")
    return file, int(position)


def number_of(file: str) -> int:
    """Return the number of a log, with which its name ends."""
    return int(file.rpartition(".")[2])


def parse_gtids(text: str) -> dict[int, Gtid]:
    """Return the transactions of a text such as ``0-1-42,1-1-7``, by domain."""
    gtids = (Gtid(*map(int, match.groups())) for match in _GTID.finditer(text))
    return {gtid.domain: gtid for gtid in gtids}


def format_gtids(gtids: Mapping[int, Gtid]) -> str:
    """Return the text of transactions."""
    return ",".join(f"{gtid.domain}-{gtid.server}-{gtid.sequence}" for gtid in gtids.values())


def read_transactions(reader: EventReader) -> Iterator[Transaction | Event]:
    """Yield the transactions of a log, and the events between them; raises as ``EventReader``."""
    first: Event | None = None
    last: Event | None = None
    for event in reader:
        if event.kind == events.GTID or event.kind in events.BETWEEN:
            if first and last:
                yield _create_transaction(first, last)
            first, last = (event, event) if event.kind == events.GTID else (None, None)
            if first is None:
                yield event
        else:
            last = event
    if first and last:
        yield _create_transaction(first, last)


def _create_transaction(first: Event, last: Event) -> Transaction:
    gtid, is_statement = events.read_gtid(first)
    is_complete = last.kind in (events.XID, events.XA_PREPARE) or (
        last.kind in events.QUERIES and (is_statement or events.read_query(last)[1] in _COMMITS)
    )
    return Transaction(first.position, last.end, first.time, gtid, is_complete)


class LogFolder:
    """A folder with binary logs of one server."""

    def __init__(self, folder: Path, base: LogPosition, target: str) -> None:
        """List the logs from that of ``base`` on.

        Raises:
            FileFailedError: the folder cannot be read.
            RecoveryMissingError: the log of ``base`` is not in it.
        """
        self._folder, self._base, self._target = folder, base, target
        stem, _, number = base.file.rpartition(".")
        with report_file_errors(folder):
            names = [path.name for path in folder.iterdir()]
        pattern = re.compile(rf"{re.escape(stem)}\.(\d{{6,}})(?:{PART}(\d+))?")
        parts = sorted(
            (int(match[1]), int(match[2] or 0), folder / match[0])
            for match in map(pattern.fullmatch, names)
            if match
        )
        begin = max((part[:2] for part in parts if part[:2] <= (int(number), base.position)), default=(0, 0))
        following = [part for part in parts if part[:2] >= begin]
        if begin[0] != int(number):
            raise RecoveryMissingError(
                target=target,
                reason=f"the binary log {base.file}, in which the backup begins, is not in {folder}",
                hint=f"Copy it there with: {COPY} {base.file}",
            )
        #: the logs without a gap, and the number of the first one after a gap
        numbers = {part[0] for part in following}
        gap = next(index for index in count(int(number)) if index not in numbers)
        self._paths = [path for index, _, path in following if index < gap]
        self._missing = f"{stem}.{gap:06}" if gap < max(numbers) else ""

    def find_range(self, at: datetime, known: datetime | None = None) -> LogRange:
        """Return what has to be replayed for the state before the second ``at``.

        ``known``: up to when the logs have all transactions; None: up to the second of the last event.

        Raises:
            PositionLaterError: transactions before the position are not before ``at``.
            RecoveryTimeError: the logs end before ``at``, or one before it is missing.
            RecoveryMissingError: the log of the position ends before it.
            RecoveryDamagedError: a log is damaged.
            RecoveryRefusedError: a log is encrypted, or of another server.
        """
        scan = _Scan(self._base, int(at.timestamp()), self._target)
        for index, path in enumerate(self._paths):
            if scan.read(path, is_first=not index):
                return scan.get_range()
            if (
                scan.next_log
                and index + 1 < len(self._paths)
                and self._paths[index + 1].name != scan.next_log
            ):
                raise scan.create_gap_error(f"the binary log {scan.next_log} is not in {self._folder}")
        if scan.latest >= scan.at or (known and at <= known and not self._missing):
            return scan.get_range()
        if self._missing:
            raise scan.create_gap_error(f"the binary log {self._missing} is not in {self._folder}")
        raise scan.create_time_error(
            f"the logs in {self._folder} end {scan.describe_end()}",
            "For a later one, run FLUSH BINARY LOGS on the server, and copy its logs again.",
        )


class _Scan:
    """The reading of logs from a position until a time."""

    def __init__(self, base: LogPosition, at: int, target: str) -> None:
        self.at, self._base, self._target = at, base, target
        self.latest = 0  #: the latest time of an event after the position
        self.next_log = ""  #: named by the end of the last log
        self._torn = 0  #: where the last log has an incomplete event
        self._gtids = dict[int, Gtid]()  #: the last transaction of each domain
        self._complete = list[LogPart]()  #: logs before the current one
        self._end: LogPart | None = None  #: of the last transaction
        self._before_end = 0  #: the number of logs before it
        self._transactions = self._last_time = 0
        self._has_begun = False
        self._is_later = False  #: whether a transaction before the position is not before the time
        self._shift = 0  #: of the current log
        self._start = base.position  #: in the file of the first log

    def get_range(self) -> LogRange:
        end = self._end
        if end is None:
            raise RuntimeError("no log was read")
        return LogRange(
            parts=[*self._complete[: self._before_end], end],
            start=self._start,
            transactions=self._transactions,
            last_time=self._last_time,
        )

    def create_time_error(self, reason: str, hint: str) -> RecoveryTimeError:
        """Return the error about a time after what was read."""
        return RecoveryTimeError(
            target=self._target,
            at=format_time(self.at),
            reason=reason,
            hint=f"The last possible time is {format_time(self.latest)}. {hint}",
        )

    def create_gap_error(self, reason: str) -> RecoveryTimeError:
        """Return the error about a gap in the logs before the time."""
        return self.create_time_error(reason, f"For a later one, copy what is missing with: {COPY} FILE")

    def describe_end(self) -> str:
        torn = f", in an incomplete event at {self._torn}" if self._torn else ""
        return f"at {format_time(self.latest)}{torn}"

    def read(self, path: Path, *, is_first: bool) -> bool:
        """Read a log; return whether it contains a transaction that is not before the time."""
        with report_file_errors(path):
            reader = EventReader(path)
            try:
                for item in read_transactions(reader):
                    self._shift = reader.shift
                    if is_first:
                        self._start = self._base.position - reader.shift
                    if self._add(item, path, is_first=is_first):
                        return True
            except EncryptedLogError:
                raise RecoveryRefusedError(
                    target=self._target,
                    reason=f"the binary log {path} is encrypted",
                    hint="Only its server has the key: with encrypt_binlog, no moment can be recovered. Restore a backup.",
                ) from None
            except DamagedLogError as error:
                raise RecoveryDamagedError(target=self._target, reason=f"{path}: {error}") from None
        self._torn = reader.end if reader.end < reader.size else 0
        if is_first and not self._has_begun:
            if reader.end < self._start:
                raise RecoveryMissingError(
                    target=self._target,
                    reason=f"the binary log {path} ends before the position of the backup, {self._base.position}",
                    hint=f"Copy it again with: {COPY} {path.name}",
                )
            self._begin(path)
        self._complete.append(LogPart(path=path, bytes=reader.end, shift=reader.shift))
        return False

    def _add(self, item: Transaction | Event, path: Path, *, is_first: bool) -> bool:
        signals.raise_if_interrupted()
        if isinstance(item, Event):
            self._add_event(item, path, is_first=is_first)
            return False
        if is_first and item.start < self._start:
            if item.end > self._start:
                raise self._foreign_error(path, f"no transaction begins at {self._base.position}")
            if item.time > self._base.time + CLOCK_TOLERANCE:
                raise self._foreign_error(path, f"it has transactions of {format_time(item.time)} before it")
            self._is_later = self._is_later or item.time >= self.at
            self._gtids[item.gtid.domain] = item.gtid
            return False
        if not self._has_begun:
            self._begin(path)
        if item.time >= self.at:
            return True
        self.latest = max(self.latest, item.time)
        if item.is_complete:  # otherwise its server crashed, and rolled it back
            self._gtids[item.gtid.domain] = item.gtid
            self._end = LogPart(path=path, bytes=item.end, shift=self._shift)
            self._before_end = len(self._complete)
            self._transactions += 1
            self._last_time = item.time
        return False

    def _add_event(self, event: Event, path: Path, *, is_first: bool) -> None:
        if not is_first or event.position >= self._start:
            self.latest = max(self.latest, event.time)
        match event.kind:
            case events.FORMAT if is_first and event.server != self._base.server:
                raise self._foreign_error(path, f"its server_id is {event.server}, not {self._base.server}")
            case events.ROTATE:
                self.next_log = events.read_next_log(event)
            case events.FORMAT:
                self.next_log = ""
            case events.GTID_LIST if is_first:
                self._gtids = events.read_gtid_list(event)
            case events.GTID_LIST if events.read_gtid_list(event) != self._gtids:
                raise self.create_gap_error(
                    f"transactions are missing between {self._complete[-1].path} and {path.name}"
                )

    def _begin(self, path: Path) -> None:
        """Note that the position was reached, and check that its log is that of the backup."""
        if self._gtids != dict(self._base.gtids):
            raise self._foreign_error(path, f"other transactions precede {self._base.position}")
        if self._is_later:
            raise PositionLaterError
        self._has_begun = True
        self._end = LogPart(path=path, bytes=self._start, shift=self._shift)

    def _foreign_error(self, path: Path, reason: str) -> RecoveryRefusedError:
        return RecoveryRefusedError(
            target=self._target,
            reason=f"the binary log {path} is not that of the backup: {reason}",
            hint="Select the folder with the logs of the server that the backup was made from.",
        )


def format_time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
