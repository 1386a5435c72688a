"""The compressed formats of files: compressors and decompressors of blocks, compatible with ``gunzip`` and ``zstd -d``."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from dbctl import signals
from dbctl.files.parallel_gzip import GZIP, RAW_DEFLATE, THREADS, open_parallel_gzip
from dbctl.model import Compression

if TYPE_CHECKING:
    from types import ModuleType

#: Suffixes of compressed files.
SUFFIXES: Mapping[Compression, str] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
#: The first bytes of compressed files.
MAGIC: Mapping[Compression, bytes] = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
#: For gzip: the ratio of ``gzip -1`` for databases; the next level is half as fast, and its output is 1 % smaller.
GZIP_LEVEL, ZLIB_LEVEL = 2, 1
#: For zstd: the ratio of gzip's default; the default level of zstd takes twice as long, and its output is 12 % smaller.
ZSTD_LEVEL = 1
#: Bytes of one decompressed block: larger ones are slower, because the system allocates their memory each time.
CHUNK = 1 << 18


class Compressor(Protocol):
    """Compressor of blocks into one stream."""

    def feed(self, block: bytes) -> bytes:
        """Compress the next block; return the available output, which may be empty."""
        ...

    def finish(self) -> bytes:
        """Return the remaining output up to the end of the stream."""
        ...


class Decompressor(Protocol):
    """Decompressor of one stream, with the interface of the decompressors in the standard library."""

    @property
    def eof(self) -> bool:
        """Whether the end of the stream was reached."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether more output requires more input."""
        ...

    @property
    def unused_data(self) -> bytes:
        """The bytes after the end of the stream."""
        ...

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return up to ``max_length`` decompressed bytes."""
        ...


def decompress_block(decompressor: Decompressor, block: bytes) -> Iterator[bytes]:
    """Yield the decompressed content of a block in chunks."""
    yield decompressor.decompress(block, CHUNK)
    while not (decompressor.eof or decompressor.needs_input):
        signals.raise_if_interrupted()
        yield decompressor.decompress(b"", CHUNK)


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


class _ZstdCompressor:
    def __init__(self) -> None:
        zstd = _zstd()
        parameter = zstd.CompressionParameter
        self._compressor = zstd.ZstdCompressor(
            options={
                parameter.compression_level: ZSTD_LEVEL,
                parameter.checksum_flag: 1,
                parameter.nb_workers: min(THREADS, parameter.nb_workers.bounds()[1]),
            }
        )

    def feed(self, block: bytes) -> bytes:
        compressed: bytes = self._compressor.compress(block)
        return compressed

    def finish(self) -> bytes:
        compressed: bytes = self._compressor.flush()
        return compressed


@contextmanager
def _zstd_compressor() -> Iterator[Compressor]:
    yield _ZstdCompressor()


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


class _PassThrough:
    """The decompressor of an uncompressed file."""

    eof, needs_input, unused_data = False, True, b""

    def decompress(self, data: bytes, _max_length: int) -> bytes:
        return data


def _gzip_decompressor() -> tuple[Decompressor, type[Exception]]:
    gzip_library = _isal_or_zlib()
    return _GzipDecompressor(gzip_library.decompressobj(GZIP)), gzip_library.error


def _zstd_decompressor() -> tuple[Decompressor, type[Exception]]:
    zstd = _zstd()
    return zstd.ZstdDecompressor(), zstd.ZstdError


COMPRESSORS: Mapping[Compression, Callable[[], AbstractContextManager[Compressor]]] = {
    "gzip": _gzip_compressor,
    "zstd": _zstd_compressor,
}
DECOMPRESSORS: Mapping[Compression, Callable[[], tuple[Decompressor, type[Exception]]]] = {
    "none": lambda: (_PassThrough(), zlib.error),
    "gzip": _gzip_decompressor,
    "zstd": _zstd_decompressor,
}
