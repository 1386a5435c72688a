"""What stands in a ``-wal`` file that SQLite would silently leave out."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dbctl import interrupt

HEADER, FRAME = 32, 24  # bytes
MAGIC = 0x377F0682  #: its lowest bit says in which order of bytes sums are made
Sums = tuple[int, int]


def lost_commits(path: Path) -> int:
    """Return how many commits stand behind the first damaged frame; SQLite drops them and says nothing.

    Frames of an earlier round behind the live ones are normal, and so is half a commit at the end. A file that is
    begun anew while it is read tells nothing.
    """
    try:
        with path.open("rb") as file:
            header = file.read(HEADER)
            lost = _lost(file, header) if len(header) == HEADER else 0
            file.seek(0)
            return lost if file.read(HEADER) == header else 0
    except FileNotFoundError:
        return 0


def _lost(file: BinaryIO, header: bytes) -> int:
    magic, _version, size = struct.unpack(">3I", header[:12])
    order = ">" if magic & 1 else "<"
    sums = _summed((0, 0), header[:24], order)
    sound = magic & ~1 == MAGIC and sums == struct.unpack(">2I", header[24:])
    if size not in {1 << power for power in range(9, 17)}:
        return 0  # nothing tells where its frames begin
    salts, lost = header[16:24], 0
    for head, page in _frames(file, size):
        if sound and head[8:16] == salts:
            sums = _summed(_summed(sums, head[:8], order), page, order)
            sound = sums == struct.unpack(">2I", head[16:])
        else:
            sound = False
        if not sound and head[8:16] == salts and head[4:8] != b"\0\0\0\0":
            lost += 1
    return lost


def _frames(file: BinaryIO, size: int) -> Iterator[tuple[bytes, bytes]]:
    while True:
        interrupt.check()
        frame = file.read(FRAME + size)
        if len(frame) < FRAME + size:
            return
        yield frame[:FRAME], frame[FRAME:]


def _summed(sums: Sums, data: bytes, order: str) -> Sums:
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
