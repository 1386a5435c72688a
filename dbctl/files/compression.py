"""Files packed and unpacked whole, so that ``gunzip`` and ``zstd -d`` read them, in blocks however large they are."""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from io import FileIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias

from dbctl import signals
from dbctl.errors import CorruptError, FileFailedError, UnpacksTooFarError
from dbctl.files import atomic
from dbctl.files.parallel_gzip import BARE, GZIP, THREADS, packing
from dbctl.files.progress import Progress, silent
from dbctl.files.subprocesses import BLOCK, new_file
from dbctl.model import Compression, Value

if TYPE_CHECKING:
    from types import ModuleType

#: What the names of packed files end in.
ENDINGS: Mapping[Compression, str] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
#: What packed files begin with.
MAGIC: Mapping[Compression, bytes] = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
#: Of gzip: as small as ``gzip -1`` packs databases; the next one packs half as fast for a hundredth less.
GZIP_LEVEL, ZLIB_LEVEL = 2, 1
#: Of zstd: as small as what gzip makes by itself; its usual one takes twice as long for an eighth less.
ZSTD_LEVEL = 1


#: Bytes that are unpacked at a time: of more, each piece is memory that the system has just made, and takes back.
PIECE = 1 << 18
#: Blocks that may wait to be hashed or written: unpacking never waits for one that takes a little longer.
AHEAD = 4

#: Takes what is to be called with a block, and the block.
Later: TypeAlias = Callable[[Callable[[bytes], object], bytes], None]
#: Passes blocks on to what writes them, encrypted.
Seal: TypeAlias = Callable[[Iterator[bytes], Callable[[bytes], int]], None]
#: Passes what is read, so many bytes at most, on to what takes it, decrypted.
Unseal: TypeAlias = Callable[[Callable[[int], bytes], Callable[[bytes], int]], None]


class Packed(Value, frozen=True, kw_only=True):
    """A file that was packed."""

    bytes: int
    sha256: str  #: hexadecimal
    plain_bytes: int  #: what it unpacks to
    inner_bytes: int  #: what was encrypted
    inner_sha256: str  #: of that; empty where nothing was


class Unpacked(Value, frozen=True, kw_only=True):
    """What a file was that was unpacked."""

    sha256: str  #: hexadecimal
    inner_sha256: str  #: of what was in it once it was decrypted; empty where it was not encrypted


class UnpackedAll(Value, frozen=True, kw_only=True):
    """A file that was unpacked."""

    sha256: str  #: of what it unpacked to, hexadecimal
    plain_bytes: int


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


def pack(
    source: Path,
    destination: Path,
    form: Compression,
    progress: Progress = silent,
    *,
    seal: Seal | None = None,
) -> Packed:
    """Pack a file into the new file ``destination``, mode 0600, which is synced; it is gone again when that fails.

    What packs it, and then encrypts it (``seal``), passes it on block by block, so nothing else is written.

    Raises:
        DiskFullError, FileFailedError: it cannot be written.
    """
    with _reading(source) as read, new_file(destination) as file:
        inner, outer = _Tally(hashed=seal is not None), _Tally(hashed=False)
        plain = _Tally(hashed=False)
        blocks = inner.of(_packed(plain.of(_blocks(read, source, progress)), form))

        def write(block: bytes) -> int:
            outer.add(block)
            return file.write(block)

        if seal:
            seal(blocks, write)
        else:
            for block in blocks:
                write(block)
    return Packed(
        bytes=outer.bytes,
        sha256=file.sha256,
        plain_bytes=plain.bytes,
        inner_bytes=inner.bytes,
        inner_sha256=inner.sha256,
    )


@contextmanager
def _reading(source: Path) -> Iterator[FileIO]:
    try:
        opened = source.open("rb", buffering=0)
    except OSError as error:
        raise FileFailedError(path=source, reason=error.strerror or str(error)) from error
    with opened:
        yield opened


def _block(read: FileIO, source: Path) -> bytes:
    signals.check()
    try:
        return read.read(BLOCK)
    except OSError as error:
        raise FileFailedError(path=source, reason=error.strerror or str(error)) from error


def _blocks(read: FileIO, source: Path, progress: Progress) -> Iterator[bytes]:
    size, done = max(1, os.fstat(read.fileno()).st_size), 0
    while block := _block(read, source):
        yield block
        done += len(block)
        progress(min(1.0, done / size))


def _packed(blocks: Iterator[bytes], form: Compression) -> Iterator[bytes]:
    if form == "none":
        yield from blocks
        return
    with _PACKERS[form]() as packer:
        for block in blocks:
            yield packer.feed(block)
        yield packer.rest()


class _Tally:
    """How many bytes came by, and their SHA-256 where that is wanted."""

    def __init__(self, *, hashed: bool) -> None:
        self.bytes, self._made = 0, hashlib.sha256() if hashed else None

    @property
    def sha256(self) -> str:
        return self._made.hexdigest() if self._made else ""

    def add(self, block: bytes) -> None:
        self.bytes += len(block)
        if self._made:
            self._made.update(block)

    def of(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self.add(block)
            yield block


def unpack(
    source: Path,
    destination: Path,
    form: Compression,
    *,
    most: int,
    target: str,
    unseal: Unseal | None = None,
) -> Unpacked:
    """Decrypt a file and unpack it into the new file ``destination``, mode 0600, for a moment, in one pass.

    Args:
        source: the packed file.
        destination: it is gone again when this fails.
        form: how it is packed.
        most: bytes that it unpacks to, neither fewer nor more.
        target: ``app/database``, for messages.
        unseal: what decrypts it; None: it is not encrypted.

    Raises:
        CorruptError: it is cut off, was changed, unpacks to another size, or something stands behind its end.
        KeyWrongError: it cannot be decrypted with what is at hand.
        DiskFullError, FileFailedError: what it unpacks to cannot be written.
    """
    outer, inner = _Tally(hashed=True), _Tally(hashed=unseal is not None)
    with (
        source.open("rb", buffering=0) as file,
        new_file(destination, brief=True) as written,
        _behind() as later,
    ):

        def write(piece: bytes) -> None:
            later(written.write, piece)

        opening = _Opening(form, write, most=most, target=target, name=source.name)

        def read(size: int) -> bytes:
            signals.check()
            block = _read(file, size, target, source)
            later(outer.add, block)
            return block

        def take(block: bytes) -> int:
            inner.add(block)
            opening.feed(block)
            return len(block)

        if unseal:
            unseal(read, take)
        else:
            while block := read(PIECE):
                take(block)
        opening.finish()
    return Unpacked(sha256=outer.sha256, inner_sha256=inner.sha256)


def unpack_all(
    source: IO[bytes],
    path: Path,
    destination: Path,
    form: Compression,
    *,
    most: int,
    target: str,
    advance: Callable[[int], None] = lambda _bytes: None,
) -> UnpackedAll:
    """Unpack what somebody else packed into the new file ``destination``, mode 0600, or copy it where it is not packed.

    Unlike what dbctl packs, it may be of several streams behind each other, as ``cat`` and parallel packers make it.

    Args:
        source: the file, read from where it stands.
        path: its name, for messages.
        destination: it is gone again when this fails.
        form: how it is packed.
        most: bytes that it may unpack to.
        target: for messages.
        advance: told how many bytes more were read.

    Raises:
        CorruptError: it is empty, cut off, was changed, or something stands behind its end.
        UnpacksTooFarError: it unpacks to more than ``most`` bytes.
        DiskFullError, FileFailedError: what it unpacks to cannot be written.
    """
    made, taken, written, size = hashlib.sha256(), 0, 0, path.stat().st_size
    with new_file(destination, brief=True) as file:
        streams = _Streams(form, target, path)
        while block := source.read(BLOCK):
            signals.check()
            taken += len(block)
            advance(len(block))
            for piece in [block] if form == "none" else streams.feed(block):
                written += len(piece)
                if written > most:
                    raise UnpacksTooFarError(path=path, most=most, times=most // max(1, size))
                made.update(piece)
                file.write(piece)
        if not taken:
            raise _damaged(target, path, "it is empty")
        if form != "none":
            streams.end()
    return UnpackedAll(sha256=made.hexdigest(), plain_bytes=written)


def head_of(path: Path, most: int) -> tuple[Compression, bytes]:
    """Return how a file is packed, by its first bytes, and the first of what it holds: at most ``most`` bytes.

    Where it is damaged, that is none.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    with atomic.regular(path) as file:
        head = file.read(most)
    form: Compression = next((form for form, magic in MAGIC.items() if head.startswith(magic)), "none")
    if form == "none":
        return form, head
    unpacker, failure = _UNPACKERS[form]()
    try:
        return form, unpacker.decompress(head, most)
    except failure:
        return form, b""


class _Streams:
    """Unpacks streams behind each other."""

    def __init__(self, form: Compression, target: str, path: Path) -> None:
        self._form, self._target, self._path = form, target, path
        self._unpacker: Unpacker | None = None
        self._first, self._began = True, False

    def feed(self, block: bytes) -> Iterator[bytes]:
        while block:
            if self._unpacker is None:
                self._unpacker, self._failure = _UNPACKERS[self._form]()
                self._began = False
            try:
                for piece in _pieces(self._unpacker, block):
                    self._began = self._began or bool(piece)
                    yield piece
            except self._failure as error:
                reason = str(error) if self._first else "something stands behind its end"
                raise _damaged(self._target, self._path, reason) from error
            block = b""
            if self._unpacker.eof:
                block, self._unpacker, self._first = self._unpacker.unused_data, None, False

    def end(self) -> None:
        """Look whether the last one came to its end."""
        if self._unpacker is not None:
            begun = self._first or self._began
            reason = "its end is missing" if begun else "something stands behind its end"
            raise _damaged(self._target, self._path, reason)


def _damaged(target: str, source: Path, reason: str) -> CorruptError:
    return CorruptError(target=target, reason=f"{source.name}: {reason}")


@contextmanager
def _behind() -> Iterator[Later]:
    """Give what calls something with a block while the next one is made, one call after the other.

    All have been made when the block ends, and what one raises ends it.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=1) as beside:
        going = deque[Future[object]]()

        def later(call: Callable[[bytes], object], block: bytes) -> None:
            if len(going) == AHEAD:
                going.popleft().result()
            going.append(beside.submit(call, block))

        yield later
        while going:
            going.popleft().result()


class _Opening:
    """Unpacks what comes in blocks into a file, and no more than it may be."""

    def __init__(
        self, form: Compression, write: Callable[[bytes], None], *, most: int, target: str, name: str
    ) -> None:
        self._unpacker, self._failure = _UNPACKERS[form]()
        self._write, self._written, self._most = write, 0, most
        self._target, self._name, self._has_end = target, name, form != "none"

    def feed(self, block: bytes) -> None:
        if self._unpacker.eof:
            raise self._damaged("something stands behind its end")
        try:
            for piece in _pieces(self._unpacker, block):
                self._written += len(piece)
                if self._written > self._most:
                    raise self._damaged(f"it unpacks to more than the {self._most:,} bytes that it had")
                self._write(piece)
        except self._failure as error:
            raise self._damaged(str(error)) from error

    def finish(self) -> None:
        if self._has_end and not self._unpacker.eof:
            raise self._damaged("its end is missing")
        if self._unpacker.unused_data:
            raise self._damaged("something stands behind its end")
        if self._written != self._most:
            raise self._damaged(f"it unpacks to {self._written:,} bytes and had {self._most:,}")

    def _damaged(self, reason: str) -> CorruptError:
        return CorruptError(target=self._target, reason=f"{self._name}: {reason}")


def _read(file: FileIO, size: int, target: str, source: Path) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        reason = f"{source.name}: {error.strerror or error}"
        raise CorruptError(target=target, reason=reason) from error


def _pieces(unpacker: Unpacker, block: bytes) -> Iterator[bytes]:
    yield unpacker.decompress(block, PIECE)
    while not (unpacker.eof or unpacker.needs_input):
        signals.check()
        yield unpacker.decompress(b"", PIECE)


def _fast() -> ModuleType:
    """Return what packs gzip fast, where there is such a thing for this machine."""
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


class _AsItIs:
    """What unpacks a file that is not packed."""

    eof, needs_input, unused_data = False, True, b""

    def decompress(self, data: bytes, _max_length: int) -> bytes:
        return data


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
    "none": lambda: (_AsItIs(), zlib.error),
    "gzip": _gzip_unpacker,
    "zstd": _zstd_unpacker,
}
