"""The compressed formats of files: compressors and decompressors of blocks, compatible with ``gunzip`` and ``zstd -d``."""

from __future__ import annotations

import struct
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dbctl import signals
from dbctl.errors.connection import CorruptError
from dbctl.files.subprocesses import BLOCK
from dbctl.model import Compression
from dbctl.progress import Progress

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from types import ModuleType

#: Suffixes of compressed files.
SUFFIXES: Mapping[Compression, str] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
#: The first bytes of compressed files.
MAGIC: Mapping[Compression, bytes] = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
#: For gzip: the ratio of ``gzip -1`` for databases; the next level is half as fast, and its output is 1 % smaller.
GZIP_LEVEL, ZLIB_LEVEL = 2, 1
#: For zstd: the ratio of gzip's default; the default level of zstd takes twice as long, and its output is 12 % smaller.
ZSTD_LEVEL = 1
#: Bytes of one compressed or decompressed block: larger ones are slower, because the system allocates their memory each time.
CHUNK = 1 << 18
GZIP, RAW_DEFLATE = 31, -15  #: for zlib: with header and checksum of gzip, and without
LEVEL = 5  #: one less than gzip's default: 10 % faster, and the output is hardly larger
#: The header of gzip without file name and time, and the end of a stream after its last block.
HEAD, END = bytes.fromhex("1f8b08000000000000ff"), b"\x03\0"
#: Blocks that are compressed at the same time; more would slow down the server and the app.
THREADS = 2
#: Compresses a block, with the bytes before it as dictionary.
Deflate = Callable[[bytes, bytes], bytes]
#: The distance over which a block may refer to earlier bytes.
WINDOW = 1 << 15


class Compressor(Protocol):
    """Compressor of blocks into one stream."""

    def compress(self, block: bytes) -> bytes:
        """Compress the next block; return the available output, which may be empty."""

    def flush(self) -> bytes:
        """Return the remaining output up to the end of the stream."""


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

    def compress(self, block: bytes) -> bytes:
        """Compress the next block; return the available output, which may be empty."""
        self._sum, self._size = zlib.crc32(block, self._sum), self._size + len(block)
        self._chunk += block
        if len(self._chunk) >= CHUNK:
            self._begin()
        return self._finished(2 * THREADS)

    def flush(self) -> bytes:
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


def _isal_or_zlib() -> ModuleType:
    """Return the fastest available gzip library."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _gzip_compressor() -> AbstractContextManager[Compressor]:
    gzip_library = _isal_or_zlib()
    level = ZLIB_LEVEL if gzip_library is zlib else GZIP_LEVEL

    def deflate(chunk: bytes, dictionary: bytes) -> bytes:
        compressor = gzip_library.compressobj(level, gzip_library.DEFLATED, RAW_DEFLATE, zdict=dictionary)
        compressed: bytes = compressor.compress(chunk) + compressor.flush(gzip_library.Z_SYNC_FLUSH)
        return compressed

    return open_parallel_gzip(deflate)


def _zstd_compressor() -> AbstractContextManager[Compressor]:
    zstd = _zstd()
    parameter = zstd.CompressionParameter
    options = {
        parameter.compression_level: ZSTD_LEVEL,
        parameter.checksum_flag: 1,
        parameter.nb_workers: min(THREADS, parameter.nb_workers.bounds()[1]),
    }
    return nullcontext(zstd.ZstdCompressor(options=options))


COMPRESSORS: Mapping[Compression, Callable[[], AbstractContextManager[Compressor]]] = {
    "gzip": _gzip_compressor,
    "zstd": _zstd_compressor,
}


class Decompressor(Protocol):
    """Decompressor of one stream, with the interface of the decompressors in the standard library."""

    @property
    def eof(self) -> bool:
        """Whether the end of the stream was reached."""

    @property
    def needs_input(self) -> bool:
        """Whether more output requires more input."""

    @property
    def unused_data(self) -> bytes:
        """The bytes after the end of the stream."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return up to ``max_length`` decompressed bytes."""


class _GzipDecompressor:
    """The decompressor of gzip with the interface ``Decompressor``."""

    eof, needs_input, unused_data = False, True, b""

    def __init__(self, decompressor: Any) -> None:
        self._decompressor = decompressor

    def decompress(self, data: bytes, max_length: int) -> bytes:
        chunk: bytes = self._decompressor.decompress(self._decompressor.unconsumed_tail + data, max_length)
        self.eof, self.unused_data = self._decompressor.eof, self._decompressor.unused_data
        # If the block is full, the input may produce further output.
        self.needs_input = not self._decompressor.unconsumed_tail and len(chunk) < max_length
        return chunk


def _gzip_decompressor() -> tuple[Decompressor, type[Exception]]:
    gzip_library = _isal_or_zlib()
    return _GzipDecompressor(gzip_library.decompressobj(GZIP)), gzip_library.error


def _zstd_decompressor() -> tuple[Decompressor, type[Exception]]:
    zstd = _zstd()
    return zstd.ZstdDecompressor(), zstd.ZstdError


DECOMPRESSORS: Mapping[Compression, Callable[[], tuple[Decompressor, type[Exception]]]] = {
    "gzip": _gzip_decompressor,
    "zstd": _zstd_decompressor,
}


class StreamDecompressor:
    """Decompressor of the blocks of a file."""

    def __init__(self, compression: Compression, target: str, name: str, *, several: bool = False) -> None:
        """Begin a stream; ``target`` and ``name``, of the file, are for messages.

        With ``several``, streams may follow each other, as ``cat`` and parallel compressors create. The blocks of a file without
        compression are returned unchanged.
        """
        self._compression, self._target, self._name, self._several = compression, target, name, several
        self._first, self._has_output = True, False
        if compression != "none":
            self._decompressor, self._failure = DECOMPRESSORS[compression]()

    def feed(self, block: bytes) -> Iterator[bytes]:
        """Yield the content of the next block in chunks.

        Raises:
            CorruptError: the file is damaged, or has data after its end.
        """
        if self._compression == "none":
            yield block
            return
        while block:
            if self._decompressor.eof:
                if not self._several:
                    raise self._corrupt("it has data after its end")
                self._decompressor, self._failure = DECOMPRESSORS[self._compression]()
                self._first, self._has_output = False, False
            try:
                yield self._decompress(block)
                while not (self._decompressor.eof or self._decompressor.needs_input):
                    signals.raise_if_interrupted()
                    yield self._decompress(b"")
            except self._failure as error:
                reason = str(error) if self._first else "it has data after its end"
                raise self._corrupt(reason) from error
            block = self._decompressor.unused_data if self._decompressor.eof else b""

    def _decompress(self, block: bytes) -> bytes:
        chunk = self._decompressor.decompress(block, CHUNK)
        self._has_output = self._has_output or bool(chunk)
        return chunk

    def finish(self) -> None:
        """Check that the last stream is complete; raises ``CorruptError``."""
        if self._compression != "none" and not self._decompressor.eof:
            has_begun = self._first or self._has_output
            raise self._corrupt("its end is missing" if has_begun else "it has data after its end")

    def _corrupt(self, reason: str) -> CorruptError:
        return CorruptError(target=self._target, reason=f"{self._name}: {reason}")


def _read_blocks(path: Path, target: str) -> Iterator[bytes]:
    """Yield the content of a file. Only its own errors are damage, not those of a caller that shows the progress."""
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                signals.raise_if_interrupted()
                yield block
    except OSError as error:
        raise CorruptError(target=target, reason=f"{path.name}: {error.strerror or error}") from error


def read_gzip(path: Path, target: str, progress: Progress) -> Iterator[bytes]:
    """Yield the decompressed content of a file in blocks; a file without compression is passed on.

    Raises:
        CorruptError: it cannot be read, is truncated or changed, or has data after its end.
    """
    blocks, read_bytes = _read_blocks(path, target), 0
    first = next(blocks, b"")
    size = path.stat().st_size
    stream = StreamDecompressor("gzip" if first.startswith(MAGIC["gzip"]) else "none", target, path.name)
    for block in chain([first] if first else [], blocks):
        read_bytes += len(block)
        yield from stream.feed(block)
        progress(read_bytes / size)
    stream.finish()
