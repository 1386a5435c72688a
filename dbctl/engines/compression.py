"""Files packed and unpacked whole, so that ``gunzip`` and ``zstd -d`` read them, in blocks however large they are."""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dbctl import interrupt
from dbctl.config import Compression
from dbctl.engines.clients import BLOCK, new_file
from dbctl.engines.dumps import Progress, silent
from dbctl.engines.packed import BARE, GZIP, THREADS, packing
from dbctl.errors import CorruptError
from dbctl.model import Value

if TYPE_CHECKING:
    from types import ModuleType

#: What the names of packed files end in.
ENDINGS: Mapping[Compression, str] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
#: Of gzip: as small as ``gzip -1`` packs databases; the next one packs half as fast for a hundredth less.
GZIP_LEVEL, ZLIB_LEVEL = 2, 1
#: Of zstd: its own usual one.
ZSTD_LEVEL = 3


class Packed(Value, frozen=True, kw_only=True):
    """A file that was packed."""

    bytes: int
    sha256: str  #: hexadecimal
    plain_bytes: int  #: what it unpacks to


class Packer(Protocol):
    """Packs blocks into one stream."""

    def feed(self, block: bytes) -> bytes:
        """Take the next block; return what has been packed by now, which may be nothing."""
        ...

    def rest(self) -> bytes:
        """Return what was not returned yet, to the end of the stream."""
        ...


class Unpacker(Protocol):
    """Unpacks one stream; the interface of the standard library's decompressors of files."""

    @property
    def eof(self) -> bool:
        """Whether the stream came to its end."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether it can make nothing more of what it was given."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What stood behind the end."""
        ...

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take more, and return what can be made of it, at most so many bytes."""
        ...


def pack(source: Path, destination: Path, form: Compression, progress: Progress = silent) -> Packed:
    """Pack a file into the new file ``destination``, mode 0600, which is synced; it is gone again when that fails.

    Raises:
        DiskFullError, FileFailedError: it cannot be written.
    """
    size, plain, written = max(1, source.stat().st_size), 0, 0
    with (
        _PACKERS[form]() as packer,
        new_file(destination) as file,
        source.open("rb", buffering=0) as read,
    ):
        while block := read.read(BLOCK):
            interrupt.check()
            plain += len(block)
            written += file.write(packer.feed(block))
            progress(min(1.0, plain / size))
        written += file.write(packer.rest())
    return Packed(bytes=written, sha256=file.sha256, plain_bytes=plain)


def unpack(source: Path, destination: Path, form: Compression, *, most: int, target: str) -> str:
    """Unpack a file into the new file ``destination``, mode 0600, for a moment; return the SHA-256 of ``source``.

    Args:
        source: the packed file.
        destination: it is gone again when this fails.
        form: how it is packed.
        most: bytes that it unpacks to, neither fewer nor more.
        target: ``app/database``, for messages.

    Raises:
        CorruptError: it is cut off, was changed, unpacks to another size, or something stands behind its end.
        DiskFullError, FileFailedError: what it unpacks to cannot be written.
    """
    made, written, (unpacker, failure) = hashlib.sha256(), 0, _UNPACKERS[form]()
    with source.open("rb", buffering=0) as read, new_file(destination, brief=True) as file:
        while block := _read(read, target, source):
            interrupt.check()
            made.update(block)
            if unpacker.eof:
                raise _damaged(target, source, "something stands behind its end")
            try:
                for piece in _pieces(unpacker, block):
                    written += len(piece)
                    if written > most:
                        reason = f"it unpacks to more than the {most:,} bytes that it had"
                        raise _damaged(target, source, reason)
                    file.write(piece)
            except failure as error:
                raise _damaged(target, source, str(error)) from error
        if not unpacker.eof:
            raise _damaged(target, source, "its end is missing")
        if unpacker.unused_data:
            raise _damaged(target, source, "something stands behind its end")
        if written != most:
            raise _damaged(target, source, f"it unpacks to {written:,} bytes and had {most:,}")
    return made.hexdigest()


def _read(file: FileIO, target: str, source: Path) -> bytes:
    try:
        return file.read(BLOCK)
    except OSError as error:
        raise _damaged(target, source, error.strerror or str(error)) from error


def _pieces(unpacker: Unpacker, block: bytes) -> Iterator[bytes]:
    yield unpacker.decompress(block, BLOCK)
    while not (unpacker.eof or unpacker.needs_input):
        interrupt.check()
        yield unpacker.decompress(b"", BLOCK)


def _damaged(target: str, source: Path, reason: str) -> CorruptError:
    return CorruptError(target=target, reason=f"{source.name}: {reason}")


def _fast() -> ModuleType:
    """Return what packs gzip fast, where there is such a thing for this machine."""
    try:
        from isal import isal_zlib  # noqa: PLC0415 - only backups pack
    except ImportError:
        return zlib
    return isal_zlib


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - as above
    else:
        from backports import zstd  # noqa: PLC0415 - as above
    return zstd


def _gzip_packer() -> AbstractContextManager[Packer]:
    fast = _fast()
    level = ZLIB_LEVEL if fast is zlib else GZIP_LEVEL

    def deflate(piece: bytes, before: bytes) -> bytes:
        made = fast.compressobj(level, fast.DEFLATED, BARE, zdict=before)
        packed: bytes = made.compress(piece) + made.flush(fast.Z_SYNC_FLUSH)
        return packed

    return packing(deflate)


class _ZstdPacker:
    def __init__(self) -> None:
        zstd = _zstd()
        told = zstd.CompressionParameter
        self._made = zstd.ZstdCompressor(
            options={
                told.compression_level: ZSTD_LEVEL,
                told.checksum_flag: 1,
                told.nb_workers: min(THREADS, told.nb_workers.bounds()[1]),
            }
        )

    def feed(self, block: bytes) -> bytes:
        packed: bytes = self._made.compress(block)
        return packed

    def rest(self) -> bytes:
        packed: bytes = self._made.flush()
        return packed


@contextmanager
def _zstd_packer() -> Iterator[Packer]:
    yield _ZstdPacker()


class _Gunzip:
    """What unpacks gzip, with the interface of the others."""

    eof, needs_input, unused_data = False, True, b""

    def __init__(self, made: Any) -> None:
        self._made = made

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece: bytes = self._made.decompress(self._made.unconsumed_tail + data, max_length)
        self.eof, self.unused_data = self._made.eof, self._made.unused_data
        # A full piece may not be all that it could make of what it has taken in.
        self.needs_input = not self._made.unconsumed_tail and len(piece) < max_length
        return piece


def _gzip_unpacker() -> tuple[Unpacker, type[Exception]]:
    fast = _fast()
    return _Gunzip(fast.decompressobj(GZIP)), fast.error


def _zstd_unpacker() -> tuple[Unpacker, type[Exception]]:
    zstd = _zstd()
    return zstd.ZstdDecompressor(), zstd.ZstdError


_PACKERS: Mapping[Compression, Callable[[], AbstractContextManager[Packer]]] = {
    "gzip": _gzip_packer,
    "zstd": _zstd_packer,
}
_UNPACKERS: Mapping[Compression, Callable[[], tuple[Unpacker, type[Exception]]]] = {
    "gzip": _gzip_unpacker,
    "zstd": _zstd_unpacker,
}
