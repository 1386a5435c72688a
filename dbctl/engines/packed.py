"""Text in the form of gzip, read in blocks however much it unpacks to."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from dbctl import interrupt
from dbctl.engines.clients import BLOCK
from dbctl.engines.dumps import Progress
from dbctl.errors import CorruptError

GZIP = 31  #: for zlib: with the head and the checksum of gzip
LEVEL = 5  #: one less than gzip itself: hardly larger, and a tenth faster


def packer() -> zlib._Compress:
    """Return what packs blocks."""
    return zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)


def unpacked(path: Path, target: str, progress: Progress) -> Iterator[bytes]:
    """Yield what a file holds.

    Raises:
        CorruptError: it is cut off, was changed, or something stands behind its end.
    """
    size, done, unpacking = path.stat().st_size, 0, zlib.decompressobj(GZIP)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            interrupt.check()
            done += len(block)
            left = block
            try:
                while left:
                    yield unpacking.decompress(left, BLOCK)
                    left = unpacking.unconsumed_tail
            except zlib.error as error:
                raise CorruptError(target=target, reason=f"{path.name}: {error}") from error
            if unpacking.unused_data:
                raise CorruptError(target=target, reason=f"{path.name}: something stands behind its end")
            progress(done / size)
    if not unpacking.eof:
        raise CorruptError(target=target, reason=f"{path.name}: its end is missing")
