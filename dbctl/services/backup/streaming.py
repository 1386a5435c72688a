"""Files of backups that are stored while a dump program writes them, without a local copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from threading import Event
from typing import Generic, TypeVar

from dbctl import signals
from dbctl.errors.backup import BackupFailedError
from dbctl.files import compression
from dbctl.files.atomic import FileDigest, HashingCounter, hash_blocks
from dbctl.files.compression import CompressedFile, Decrypt, Encrypt
from dbctl.files.temp import start_call
from dbctl.model import Compression
from dbctl.stores.base import FolderWriter

T = TypeVar("T")

#: Blocks that wait to be read; further writes wait.
MAX_PENDING = 4
#: Seconds between two checks for a signal, and for the end of the other side.
POLL_SECONDS = 0.05


class PipeAbortedError(Exception):
    """The writer failed, so the blocks are incomplete."""


class Pipe(Generic[T]):
    """A pipe from the caller to a function that reads blocks in another thread."""

    def __init__(self, read: Callable[[Iterator[bytes]], T]) -> None:
        """Start the function; an exception that the blocks raise has to end it."""
        self._queue = Queue[bytes | None](MAX_PENDING)
        self._is_aborted = Event()
        self._reading = start_call(lambda: read(self._blocks()))

    def _blocks(self) -> Iterator[bytes]:
        while not self._is_aborted.is_set():
            with suppress(Empty):
                if (block := self._queue.get(timeout=POLL_SECONDS)) is None:
                    return
                yield block
        raise PipeAbortedError

    def write(self, block: bytes) -> int:
        """Pass on a block, and return its size; raises the exception of the function, and ``Interrupted`` on a signal."""
        self._put(block)
        return len(block)

    def end(self) -> None:
        """Pass on that there are no further blocks; raises as ``write``."""
        self._put(None)

    def _put(self, block: bytes | None) -> None:
        while True:
            signals.raise_if_interrupted()
            if self._reading.done():
                self._reading.result()
                raise RuntimeError("the reader has ended before the writer")
            # An interruption would leave locks of the queue held.
            with signals.defer_signals(), suppress(Full):
                self._queue.put(block, timeout=POLL_SECONDS)
                return

    def result(self) -> T:
        """Return the result of the function after ``end``; raises as ``write``."""
        while not wait([self._reading], POLL_SECONDS).done:
            signals.raise_if_interrupted()
        return self._reading.result()

    def abort(self) -> None:
        """End the function without a result, and wait for its end: afterwards it writes nothing."""
        self._is_aborted.set()
        with signals.defer_signals():
            wait([self._reading])


#: How much larger than its estimate a stored dump may be, and the smallest estimate in bytes: an upload has a limited number of parts,
#: whose size is chosen at its beginning.
MARGIN, MIN_SIZE = 4, 64 << 20


class StreamedFile:
    """A file of a backup; a ``DumpOutput``, whose blocks are compressed, encrypted and stored."""

    def __init__(
        self,
        folder: FolderWriter,
        name: str,
        *,
        form: Compression,
        estimated_bytes: int,
        target: str,
        encrypt: Encrypt | None,
        decrypt: Decrypt | None,
    ) -> None:
        """Store nothing yet.

        Args:
            folder: of the backup.
            name: of the file there.
            form: its compression.
            estimated_bytes: the size of the compressed file.
            target: the database in messages.
            encrypt: None: the file is not encrypted.
            decrypt: decrypts what ``encrypt`` wrote; None: this machine cannot.
        """
        self._folder, self._name, self._form, self._target = folder, name, form, target
        self._size = max(MIN_SIZE, MARGIN * estimated_bytes)
        self._encrypt, self._decrypt = encrypt, decrypt
        #: the threads that store and that encode the file
        self._stages: tuple[Pipe[FileDigest], Pipe[compression.Encoded]] | None = None
        self.counter = HashingCounter()

    @contextmanager
    def begin(self) -> Iterator[StreamedFile]:
        """Begin the file; the block writes its whole content, and ``finish`` waits until it is stored."""
        self.counter = HashingCounter()
        storing = Pipe(self._store)
        encoding = Pipe(lambda blocks: self._encode(blocks, storing))
        self._stages = storing, encoding
        yield self
        encoding.end()

    def write(self, block: bytes) -> int:
        """Pass on a block; raises the error of the store, if it failed."""
        if self._stages is None:
            raise RuntimeError("the file was not begun")
        self.counter.add(block)
        return self._stages[1].write(block)

    def abort(self) -> None:
        """Stop storing the file; what was stored remains, as of a local copy that fails."""
        for stage in reversed(self._stages or ()):
            stage.abort()

    def discard(self) -> None:
        """Stop storing the file, and delete it."""
        self.abort()
        self._folder.remove(self._name)

    def finish(self) -> CompressedFile:
        """Wait until the file is stored, and was read back from the store with the content that was written.

        Raises:
            BackupFailedError: the store returns other content.
            StorageFailedError, RepositoryFailedError, DiskFullError: it was not stored.
        """
        if self._stages is None:
            raise RuntimeError("the file was not written")
        storing, encoding = self._stages
        encoded, stored = encoding.result(), storing.result()
        return CompressedFile(stored=stored, plain_bytes=encoded.plain_bytes, inner=encoded.inner)

    # In other threads -----------------------------------------------------------------------------------------------

    def _encode(self, blocks: Iterator[bytes], storing: Pipe[FileDigest]) -> compression.Encoded:
        encoded = compression.encode_blocks(blocks, storing.write, self._form, encrypt=self._encrypt)
        storing.end()
        return encoded

    def _store(self, blocks: Iterator[bytes]) -> FileDigest:
        return self._folder.write(self._name, blocks, self._size, self._prove)

    def _prove(self, blocks: Iterable[bytes]) -> FileDigest:
        """Return the digest of what the store returns, after its content was compared with the dump.

        An encrypted file that this machine cannot decrypt is compared as it was sent.
        """
        if self._encrypt and self._decrypt is None:
            return hash_blocks(blocks)
        decoded = compression.hash_content(
            blocks, self._form, target=self._target, name=self._name, decrypt=self._decrypt
        )
        if decoded.content != self.counter.digest:
            reason = f"the repository returns {self._name} with other content than the dump program wrote"
            raise BackupFailedError(target=self._target, reason=reason)
        return decoded.stored
