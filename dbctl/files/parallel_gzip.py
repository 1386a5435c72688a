"""Gzip compression with several threads, and reading of gzip files in blocks."""

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

GZIP, RAW_DEFLATE = 31, -15  #: for zlib: with header and checksum of gzip, and without
LEVEL = 5  #: one less than gzip's default: 10 % faster, and the output is hardly larger
#: The header of gzip without file name and time, and the end of a stream after its last block.
HEAD, END = bytes.fromhex("1f8b08000000000000ff"), b"\x03\0"
#: Blocks that are compressed at the same time; more would slow down the server and the app.
THREADS = 2
#: Compresses a block, with the bytes before it as dictionary.
Deflate = Callable[[bytes, bytes], bytes]
#: Bytes of one block, and the distance over which it may refer to earlier bytes.
CHUNK, WINDOW = 1 << 18, 1 << 15


def best_gzip(chunk: bytes, dictionary: bytes) -> bytes:
    """Compress a block with a good ratio; for callers whose speed a server limits."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, RAW_DEFLATE, zdict=dictionary)
    return compressor.compress(chunk) + compressor.flush(zlib.Z_SYNC_FLUSH)


@contextmanager
def open_parallel_gzip(deflate: Deflate = best_gzip) -> Iterator[ParallelGzip]:
    """Yield a compressor with a thread pool."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(THREADS)
    try:
        yield ParallelGzip(pool, deflate)
    finally:
        with signals.defer_signals():  # an interruption would leave locks of the pool held
            pool.shutdown(cancel_futures=True)


class ParallelGzip:
    """Compressor of blocks into one gzip stream, several blocks concurrently.

    The end of the previous block is the dictionary of the next one, so the splits do not increase the size.
    """

    def __init__(self, pool: ThreadPoolExecutor, deflate: Deflate) -> None:
        self._pool, self._deflate, self._output = pool, deflate, HEAD
        self._pending: deque[Future[bytes]] = deque()
        self._chunk, self._dictionary = bytearray(), b""
        self._sum = self._size = 0

    def feed(self, block: bytes) -> bytes:
        """Compress the next block; return the available output, which may be empty."""
        self._sum, self._size = zlib.crc32(block, self._sum), self._size + len(block)
        self._chunk += block
        if len(self._chunk) >= CHUNK:
            self._begin()
        return self._finished(2 * THREADS)

    def finish(self) -> bytes:
        """Return the remaining output up to the end of the stream."""
        self._begin()
        return self._finished(0) + END + struct.pack("<II", self._sum, self._size % (1 << 32))

    def _begin(self) -> None:
        chunk, self._chunk = bytes(self._chunk), bytearray()
        with signals.defer_signals():  # an interruption would leave locks of the pool held
            self._pending.append(self._pool.submit(self._deflate, chunk, self._dictionary))
        self._dictionary = chunk[-WINDOW:]

    def _finished(self, max_pending: int) -> bytes:
        """Return the finished output in order, and wait until at most ``max_pending`` blocks are pending."""
        output, self._output = self._output, b""
        with signals.defer_signals():
            while self._pending and (len(self._pending) > max_pending or self._pending[0].done()):
                output += self._pending.popleft().result()
        return output


def read_gzip(path: Path, target: str, progress: Progress) -> Iterator[bytes]:
    """Yield the decompressed content of a file in blocks.

    Raises:
        CorruptError: it is truncated or changed, or has data after its end.
    """
    size, read_bytes, decompressor = path.stat().st_size, 0, zlib.decompressobj(GZIP)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            signals.raise_if_interrupted()
            read_bytes += len(block)
            compressed = block
            try:
                while compressed:
                    yield decompressor.decompress(compressed, BLOCK)
                    compressed = decompressor.unconsumed_tail
            except zlib.error as error:
                raise CorruptError(target=target, reason=f"{path.name}: {error}") from error
            if decompressor.unused_data:
                raise CorruptError(target=target, reason=f"{path.name}: it has data after its end")
            progress(read_bytes / size)
    if not decompressor.eof:
        raise CorruptError(target=target, reason=f"{path.name}: its end is missing")
