"""Text in the form of gzip: written on several cores, read in blocks however much it unpacks to."""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.errors import CorruptError
from dbctl.files.progress import Progress
from dbctl.files.subprocesses import BLOCK

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

GZIP, BARE = 31, -15  #: for zlib: with the head and the checksum of gzip, and without any
LEVEL = 5  #: one less than gzip itself: hardly larger, and a tenth faster
#: What gzip begins with where there is nothing to tell of a file, and how a stream ends behind its last piece.
HEAD, END = bytes.fromhex("1f8b08000000000000ff"), b"\x03\0"
#: Pieces that are packed at once: enough to outrun one core, and the server and the app want the others.
THREADS = 2
#: Packs a piece, knowing what stood before it.
Deflate = Callable[[bytes, bytes], bytes]
#: Bytes that are packed together, and how far back text may refer to what stood before.
PIECE, WINDOW = 1 << 18, 1 << 15


def thorough(piece: bytes, before: bytes) -> bytes:
    """Pack a piece well, for who waits for a server anyway."""
    made = zlib.compressobj(LEVEL, zlib.DEFLATED, BARE, zdict=before)
    return made.compress(piece) + made.flush(zlib.Z_SYNC_FLUSH)


@contextmanager
def packing(deflate: Deflate = thorough) -> Iterator[Packing]:
    """Give what packs blocks."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(THREADS)
    try:
        yield Packing(pool, deflate)
    finally:
        with signals.held():  # threads have locks
            pool.shutdown(cancel_futures=True)


class Packing:
    """Packs blocks into one stream of gzip, several at once.

    Each piece is packed knowing the end of the one before it, so the cuts cost no room.
    """

    def __init__(self, pool: ThreadPoolExecutor, deflate: Deflate) -> None:
        self._pool, self._deflate, self._ready = pool, deflate, HEAD
        self._begun: deque[Future[bytes]] = deque()
        self._piece, self._before = bytearray(), b""
        self._sum = self._size = 0

    def feed(self, block: bytes) -> bytes:
        """Take the next block; return what has been packed by now, which may be nothing."""
        self._sum, self._size = zlib.crc32(block, self._sum), self._size + len(block)
        self._piece += block
        if len(self._piece) >= PIECE:
            self._begin()
        return self._packed(2 * THREADS)

    def rest(self) -> bytes:
        """Return what was not returned yet, to the end of the stream."""
        self._begin()
        return self._packed(0) + END + struct.pack("<II", self._sum, self._size % (1 << 32))

    def _begin(self) -> None:
        piece, self._piece = bytes(self._piece), bytearray()
        with signals.held():  # threads have locks
            self._begun.append(self._pool.submit(self._deflate, piece, self._before))
        self._before = piece[-WINDOW:]

    def _packed(self, most: int) -> bytes:
        """Return what is done, in its order, and wait until no more than ``most`` pieces are not."""
        done, self._ready = self._ready, b""
        with signals.held():
            while self._begun and (len(self._begun) > most or self._begun[0].done()):
                done += self._begun.popleft().result()
        return done


def unpacked(path: Path, target: str, progress: Progress) -> Iterator[bytes]:
    """Yield what a file holds.

    Raises:
        CorruptError: it is cut off, was changed, or something stands behind its end.
    """
    size, done, unpacking = path.stat().st_size, 0, zlib.decompressobj(GZIP)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            signals.check()
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
