"""Compression and decompression of whole files in blocks."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO, TypeAlias

from dbctl import progress, signals
from dbctl.errors.backup import DecompressionLimitError
from dbctl.errors.connection import CorruptError
from dbctl.files import atomic
from dbctl.files.age import byte_reader
from dbctl.files.atomic import FileDigest, HashingCounter, create_file
from dbctl.files.codecs import CHUNK, COMPRESSORS, DECOMPRESSORS, MAGIC, StreamDecompressor
from dbctl.files.subprocesses import BLOCK
from dbctl.model import Compression, Struct
from dbctl.progress import Progress, no_progress

#: Blocks that may wait to be hashed or written, so that decompression does not wait for a slow block.
MAX_PENDING = 4

#: Calls a function with a block in the background.
Submit: TypeAlias = Callable[[Callable[[bytes], object], bytes], None]
#: Encrypts blocks and passes them to a function that writes them.
Encrypt: TypeAlias = Callable[[Iterator[bytes], Callable[[bytes], int]], None]
#: Decrypts the bytes that the first function reads, and passes the result to the second one.
Decrypt: TypeAlias = Callable[[Callable[[int], bytes], Callable[[bytes], int]], None]


class Encoded(Struct, frozen=True, kw_only=True):
    """What was compressed, and encrypted if required."""

    plain_bytes: int  #: of the original
    inner: FileDigest  #: the compressed content before encryption; without encryption, it has no hash


class CompressedFile(Encoded, frozen=True, kw_only=True):
    """What was compressed, in a file."""

    stored: FileDigest


class DecompressedFile(Struct, frozen=True, kw_only=True):
    """A file that was decrypted and decompressed."""

    stored: FileDigest  #: as it was read
    inner: FileDigest  #: after decryption; without encryption, it has no hash
    content: FileDigest  #: without ``hashed``, it has no hash


def compress_file(
    source: Path,
    destination: Path,
    compression: Compression,
    progress: Progress = no_progress,
    *,
    encrypt: Encrypt | None = None,
) -> CompressedFile:
    """Compress a file into the new file ``destination``, as ``compress_blocks`` does."""
    with atomic.translate_errors(source, source.parent), source.open("rb", buffering=0) as reader:
        blocks = _source_blocks(reader, source, progress)
        return compress_blocks(blocks, destination, compression, encrypt=encrypt)


def compress_blocks(
    blocks: Iterator[bytes], destination: Path, compression: Compression, *, encrypt: Encrypt | None = None
) -> CompressedFile:
    """Compress blocks into the new file ``destination``, mode 0600, and sync it; it is deleted on failure.

    Compression and encryption work block by block, without another temporary file.

    Raises:
        DiskFullError, FileFailedError: it cannot be written.
    """
    with create_file(destination) as file:
        encoded = encode_blocks(blocks, file.write, compression, encrypt=encrypt)
    return CompressedFile(stored=file.counter.digest, plain_bytes=encoded.plain_bytes, inner=encoded.inner)


def encode_blocks(
    blocks: Iterator[bytes],
    write: Callable[[bytes], int],
    compression: Compression,
    *,
    encrypt: Encrypt | None = None,
) -> Encoded:
    """Compress and encrypt blocks, and write the result; exceptions of both are raised unchanged."""
    inner, plain = HashingCounter(hashed=encrypt is not None), HashingCounter(hashed=False)
    compressed = inner.count(_compress(plain.count(blocks), compression))
    if encrypt:
        encrypt(compressed, write)
    else:
        for block in compressed:
            write(block)
    return Encoded(plain_bytes=plain.bytes, inner=inner.digest)


def hash_content(
    blocks: Iterable[bytes],
    compression: Compression,
    *,
    target: str,
    name: str,
    decrypt: Decrypt | None = None,
) -> DecompressedFile:
    """Return the digests of the blocks of a file, which are decrypted and decompressed without being written.

    Raises:
        CorruptError: the file is truncated or changed, or has data after its end.
        KeyWrongError: no available key can decrypt it.
    """
    outer, content = HashingCounter(), HashingCounter()
    stream = StreamDecompressor(compression, target, name)
    inner = _decode(byte_reader(outer.count(blocks)), content.add, stream, decrypt)
    return DecompressedFile(stored=outer.digest, inner=inner, content=content.digest)


def _decode(
    read: Callable[[int], bytes],
    write: Callable[[bytes], object],
    stream: StreamDecompressor,
    decrypt: Decrypt | None,
) -> FileDigest:
    """Decrypt and decompress what ``read`` returns, and pass it to ``write``; return the digest after decryption, which has no hash without one."""
    inner = HashingCounter(hashed=decrypt is not None)

    def feed(block: bytes) -> int:
        inner.add(block)
        for chunk in stream.feed(block):
            write(chunk)
        return len(block)

    if decrypt:
        decrypt(read, feed)
    else:
        while block := read(CHUNK):
            feed(block)
    stream.finish()
    return inner.digest


def _source_blocks(reader: FileIO, source: Path, progress: Progress) -> Iterator[bytes]:
    size, read_bytes = max(1, os.fstat(reader.fileno()).st_size), 0
    with atomic.translate_errors(source, source.parent):  # before the destination reports it as its own
        while block := reader.read(BLOCK):
            signals.raise_if_interrupted()
            yield block
            read_bytes += len(block)
            progress(min(1.0, read_bytes / size))


def _compress(blocks: Iterator[bytes], compression: Compression) -> Iterator[bytes]:
    if compression == "none":
        yield from blocks
        return
    with COMPRESSORS[compression]() as compressor:
        for block in blocks:
            yield compressor.compress(block)
        yield compressor.flush()


def decompress_file(
    source: Path,
    destination: Path,
    compression: Compression,
    *,
    expected_bytes: int,
    target: str,
    decrypt: Decrypt | None = None,
    hashed: bool = False,
) -> DecompressedFile:
    """Decrypt and decompress a file into the new file ``destination``, mode 0600, in one pass; it is not synced.

    The result must have exactly ``expected_bytes`` bytes. On failure the new file is deleted. The content is ``hashed`` while it is written.

    Raises:
        CorruptError: the file is truncated or changed, has another decompressed size, or data after its end.
        KeyWrongError: no available key can decrypt it.
        DiskFullError, FileFailedError: the destination cannot be written.
    """
    outer, content = HashingCounter(), HashingCounter(hashed=hashed)
    with (
        _open(source, target) as file,
        create_file(destination, temporary=True) as written,
        _background_calls() as submit,
    ):
        stream, sized = StreamDecompressor(compression, target, source.name), 0

        def read(size: int) -> bytes:
            signals.raise_if_interrupted()
            try:
                block = file.read(size)
            except OSError as error:
                raise _corrupt(target, source, error.strerror or str(error)) from error
            submit(outer.add, block)
            return block

        def write(chunk: bytes) -> None:
            content.add(chunk)
            written.write(chunk)

        def write_bounded(chunk: bytes) -> None:
            nonlocal sized
            sized += len(chunk)
            if sized > expected_bytes:
                reason = f"it decompresses to more than the expected {expected_bytes:,} bytes"
                raise _corrupt(target, source, reason)
            submit(write, chunk)

        inner = _decode(read, write_bounded, stream, decrypt)
        if sized != expected_bytes:
            raise _corrupt(target, source, f"it decompresses to {sized:,} bytes, expected {expected_bytes:,}")
    return DecompressedFile(stored=outer.digest, inner=inner, content=content.digest)


def decompress_import(
    source: IO[bytes], path: Path, destination: Path, compression: Compression, *, max_bytes: int, target: str
) -> FileDigest:
    """Decompress a file of another program into the new file ``destination``, or copy an uncompressed one; return its digest.

    Unlike a file of dbctl, it may consist of several streams, as ``cat`` and parallel compressors create. ``source`` is open, and
    ``path`` is its name for messages. On failure the new file is deleted.

    Raises:
        CorruptError: the file is empty, truncated or changed, or has data after its end.
        DecompressionLimitError: it decompresses to more than ``max_bytes`` bytes.
        DiskFullError, FileFailedError: the destination cannot be written.
    """
    content, read_bytes, size = HashingCounter(), 0, path.stat().st_size
    with create_file(destination, temporary=True) as file:
        streams = StreamDecompressor(compression, target, path.name, several=True)
        while block := source.read(BLOCK):
            signals.raise_if_interrupted()
            read_bytes += len(block)
            progress.advance(len(block))
            for chunk in streams.feed(block):
                content.add(chunk)
                if content.bytes > max_bytes:
                    raise DecompressionLimitError(path=path, limit=max_bytes, ratio=max_bytes // max(1, size))
                file.write(chunk)
        if not read_bytes:
            raise _corrupt(target, path, "it is empty")
        streams.finish()
    return content.digest


def read_head(path: Path, max_bytes: int) -> tuple[Compression, bytes]:
    """Return the compression of a file, detected from its first bytes, and at most ``max_bytes`` bytes of its content.

    The content of a damaged file is empty.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    with atomic.open_regular(path) as file:
        head = file.read(max_bytes)
    compression: Compression = next(
        (compression for compression, magic in MAGIC.items() if head.startswith(magic)), "none"
    )
    if compression == "none":
        return compression, head
    decompressor, failure = DECOMPRESSORS[compression]()
    try:
        return compression, decompressor.decompress(head, max_bytes)
    except failure:
        return compression, b""


def _corrupt(target: str, source: Path, reason: str) -> CorruptError:
    return CorruptError(target=target, reason=f"{source.name}: {reason}")


@contextmanager
def _background_calls() -> Iterator[Submit]:
    """Yield a function that runs another one with a block in the background, one call after the other.

    All calls have finished when the block ends; the exception of a call ends it.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=1) as executor:
        pending = deque[Future[object]]()

        def submit(call: Callable[[bytes], object], block: bytes) -> None:
            if len(pending) == MAX_PENDING:
                pending.popleft().result()
            pending.append(executor.submit(call, block))

        yield submit
        while pending:
            pending.popleft().result()


def _open(source: Path, target: str) -> FileIO:
    """Open a file; one that another process has deleted is as corrupt as one that cannot be read."""
    try:
        return source.open("rb", buffering=0)
    except OSError as error:
        raise _corrupt(target, source, error.strerror or str(error)) from error
