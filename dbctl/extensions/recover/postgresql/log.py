"""The archived log of a server: its segments, in the order of the timelines that a recovery follows."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from dbctl import progress, signals
from dbctl.errors.connection import report_file_errors
from dbctl.extensions.recover.errors import (
    RecoveryDamagedError,
    RecoveryMissingError,
    RecoveryRefusedError,
    report_damage,
)
from dbctl.files import atomic, compression
from dbctl.files.atomic import create_file
from dbctl.files.codecs import CHUNK, SUFFIXES, StreamDecompressor
from dbctl.model import Struct

_SUFFIXES = "|".join(re.escape(suffix) for suffix in SUFFIXES.values() if suffix)
#: ``pg_receivewal`` writes ``NAME.partial`` or ``NAME.gz.partial``, and an old timeline may end with ``NAME.partial``.
SEGMENT = re.compile(rf"([0-9A-F]{{24}})({_SUFFIXES})?(\.partial)?({_SUFFIXES})?")
_HISTORY = re.compile(rf"([0-9A-F]{{8}})\.history({_SUFFIXES})?")
_BRANCH = re.compile(r"\s*(\d+)\s+([0-9A-F]+)/([0-9A-F]+)", re.MULTILINE)
#: The header of the first page: magic number, flags, timeline, address, and, after a length, system, segment size and block size.
_HEADER = struct.Struct("<HHIQ8xQII")
_NAME_LENGTH = 24
#: Characters of the timeline in the name of a segment.
TIMELINE_LENGTH = 8
#: Bytes of a file that show how it is compressed.
MAGIC_BYTES = 16
#: Bytes of a history file.
_MAX_HISTORY = 1 << 20


class Segment(Struct, frozen=True, kw_only=True):
    path: Path
    number: int  #: its position in the log
    timeline: int
    is_partial: bool  #: its end may be missing

    @property
    def name(self) -> str:
        """The name that the server gives it, without suffixes."""
        return _name_of(self.path)


class Header(Struct, frozen=True, kw_only=True):
    """The beginning of a segment."""

    system: int  #: the identifier of the server
    size: int  #: bytes of each of its segments


def parse_position(text: str) -> int:
    """Return a position in the log, ``0/6000028``, as a number of bytes."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def format_position(position: int) -> str:
    """Return the text of a position in the log."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def locate(name: str, size: int) -> int:
    """Return the position at which a segment of ``size`` bytes begins."""
    return (int(name[8:16], 16) << 32) + int(name[16:_NAME_LENGTH], 16) * size


class Timeline(NamedTuple):
    """A part of the history of a server: a promotion, and each recovery, begins another one."""

    number: int
    begin: int  #: the position at which it begins; 0: before the copy
    end: int | None = None  #: the position at which a recovery leaves it; None: that is the end of the log


class Log:
    """The segments in one or more folders; of equal names the first folder counts, and a complete one before a partial one."""

    def __init__(self, folders: Sequence[Path], target: str, place: str) -> None:
        """List the files; ``place`` is where they are from, for messages.

        Raises:
            FileMissingError, FileFailedError: a folder does not exist, or cannot be read.
            RecoveryMissingError: they contain no segment.
        """
        self._target, self.place = target, place
        self._paths, self._histories = dict[str, Path](), dict[int, Path]()
        for folder in folders:
            for path in sorted(list_files(folder)):
                if match := _HISTORY.fullmatch(path.name):
                    self._histories.setdefault(int(match[1], 16), path)
                elif (match := SEGMENT.fullmatch(path.name)) and self._is_better(path, match[1]):
                    self._paths[match[1]] = path
        if not self._paths:
            raise RecoveryMissingError(
                target=target,
                reason=f"{self.place} has no segment of a PostgreSQL log",
                hint="Check log under [apps.NAME.recovery.databases.NAME]: it is the folder that archive_command or pg_receivewal writes.",
            )
        self.header = self._read_first_header()

    def _is_better(self, path: Path, name: str) -> bool:
        return name not in self._paths or (_is_partial(self._paths[name]) and not _is_partial(path))

    def _read_first_header(self) -> Header:
        for path in self._paths.values():
            if header := self._read_header(path):
                return header
        raise RecoveryMissingError(
            target=self._target,
            reason=f"no segment in {self.place} has any content",
            hint="Check log under [apps.NAME.recovery.databases.NAME].",
        )

    def _read_header(self, path: Path) -> Header | None:
        """Return the header of a segment; None: nothing of this name was written to it, or the header is damaged.

        A server renames old segments for later use, so the end of its own folder has segments with an old content.
        """
        with report_file_errors(path):
            kind, head = compression.read_head(path, _HEADER.size)
            if kind != "none":
                head = compression.read_head(path, CHUNK)[1][: _HEADER.size]
        if len(head) < _HEADER.size:
            return None
        _, _, _, address, system, size, _ = _HEADER.unpack(head)
        return Header(system=system, size=size) if size and address == locate(_name_of(path), size) else None

    def _name(self, timeline: int, number: int) -> str:
        per_file = (1 << 32) // self.header.size
        return f"{timeline:08X}{number // per_file:08X}{number % per_file:08X}"

    def segment_number(self, position: int) -> int:
        """Return the number of the segment with a position."""
        return position // self.header.size

    def find_timelines(self, timeline: int, position: int) -> Sequence[Timeline]:
        """Return the timelines that lead from a position on ``timeline`` to the latest one that contains it."""
        chain = [Timeline(timeline, 0)]
        for number, path in sorted(self._histories.items()):
            branches = [
                (int(line[1]), parse_position(f"{line[2]}/{line[3]}"))
                for line in _BRANCH.finditer(_read(path))
            ]
            parents = [*(parent for parent, _ in branches), number]
            if timeline not in parents[:-1] or branches[index := parents.index(timeline)][1] < position:
                continue
            ends = [end for _, end in branches[index:]]
            chain = [
                Timeline(name, begin, end)
                for name, begin, end in zip(parents[index:], [0, *ends], [*ends, None], strict=True)
            ]
        return chain

    def list_timelines(self) -> Sequence[int]:
        return sorted({*self._histories, *(int(name[:8], 16) for name in self._paths)})

    def copy_histories(self, destination: Path) -> Iterator[Path]:
        """Copy the histories of the timelines into a folder, and yield the copies."""
        for number, path in self._histories.items():
            copy = destination / f"{number:08X}.history"
            with create_file(copy, temporary=True) as file:
                file.write(_read(path).encode())
            yield copy

    def follow(self, timelines: Sequence[Timeline], first: int) -> tuple[Sequence[Segment], str]:
        """Return the segments from the number ``first`` to the end of the log, or to a gap; and the name of the missing segment.

        The last one may be incomplete, because its server, or the program that archived it, was killed.
        """
        segments, missing, last = list[Segment](), "", self._find_last(timelines)
        for number in range(first, last + 1):
            if (segment := self._find(timelines, number)) is None:
                missing = self.list_names(timelines, number)[0]
                break
            segments.append(segment)
        return [*segments[:-1], *(structs.replace(end, is_partial=True) for end in segments[-1:])], missing

    def _find_last(self, timelines: Sequence[Timeline]) -> int:
        """Return the number of the last segment with content; -1: there is none."""
        known = {timeline.number: timeline for timeline in timelines}
        numbered = [
            (number, path)
            for name, path in self._paths.items()
            if (timeline := known.get(int(name[:8], 16)))
            and self._contains(timeline, number := self.segment_number(locate(name, self.header.size)))
        ]
        return next(
            (number for number, path in sorted(numbered, reverse=True) if self._read_header(path)), -1
        )

    def _contains(self, timeline: Timeline, number: int) -> bool:
        end = number if timeline.end is None else self.segment_number(timeline.end)
        return self.segment_number(timeline.begin) <= number <= end

    def list_names(self, timelines: Sequence[Timeline], number: int) -> Sequence[str]:
        """Return the names that a segment may have: each timeline begins with a copy of the end of the one before."""
        known = (line for line in reversed(timelines) if self._contains(line, number))
        return [self._name(line.number, number) for line in known]

    def _find(self, timelines: Sequence[Timeline], number: int) -> Segment | None:
        """Return a segment, from the latest timeline that has it."""
        for name in self.list_names(timelines, number):
            if path := self._paths.get(name):
                timeline = int(name[:8], 16)
                return Segment(path=path, number=number, timeline=timeline, is_partial=_is_partial(path))
        return None

    def stage(self, segment: Segment, folder: Path) -> Path:
        """Copy a segment into a folder, decompressed, and return the copy.

        Raises:
            RecoveryDamagedError: it is damaged.
            RecoveryRefusedError: it is from another server.
            DiskFullError: there is not enough free space.
        """
        header = self._read_header(segment.path)
        if header is None:
            raise RecoveryDamagedError(
                target=self._target, reason=f"{segment.path} is no segment of the log, or is damaged"
            )
        if header.system != self.header.system:
            raise RecoveryRefusedError(
                target=self._target,
                reason=f"{segment.path} is from the server {header.system}, other segments are from {self.header.system}",
                hint="Separate the archives of the two servers.",
            )
        copy, written = folder / segment.name, 0
        kind, _ = compression.read_head(segment.path, MAGIC_BYTES)
        with (
            report_damage(),
            report_file_errors(segment.path),
            atomic.open_regular(segment.path) as source,
            create_file(copy, temporary=True) as file,
        ):
            stream = StreamDecompressor(kind, self._target, str(segment.path), several=True)
            while block := source.read(CHUNK):
                signals.raise_if_interrupted()
                progress.advance(len(block))
                for chunk in stream.feed(block):
                    written += len(chunk)
                    if written > header.size:
                        raise RecoveryDamagedError(
                            target=self._target, reason=f"{segment.path} is longer than a segment"
                        )
                    file.write(chunk)
            if segment.is_partial:  # zeros are the end of the log
                file.write(bytes(header.size - written))
            else:
                stream.finish()
                if written != header.size:
                    raise RecoveryDamagedError(
                        target=self._target, reason=f"{segment.path} is shorter than a segment"
                    )
        return copy


def list_files(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and in its subfolders."""
    with report_file_errors(folder, kind="folder"):
        for path in sorted(folder.iterdir()):
            if path.is_file():
                yield path
            elif path.is_dir() and re.fullmatch("[0-9A-F]{16}", path.name):
                yield from (inner for inner in path.iterdir() if inner.is_file())


def _name_of(path: Path) -> str:
    """Return the name that the server gave a segment, without suffixes."""
    return path.name[:_NAME_LENGTH]


def _is_partial(path: Path) -> bool:
    return ".partial" in path.suffixes


def _read(path: Path) -> str:
    with report_file_errors(path):
        return compression.read_head(path, _MAX_HISTORY)[1].decode(errors="replace")
