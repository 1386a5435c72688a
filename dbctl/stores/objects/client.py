"""Requests to object storage: bounded memory and time, interruptible, with short error messages.

The library repeats requests whose connection failed. With the S3 protocol it signs each request with the SHA-256 of its
body, which the server has to check.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from dbctl import signals
from dbctl.config.storage import Address
from dbctl.errors.backup import StorageFailedError, StorageSettingInvalidError
from dbctl.files.temp import start_call
from dbctl.stores.objects.connection import (
    EMPTY,
    MAX_ATTEMPTS,
    RETRY_PAUSE,
    Connect,
    RequestFailure,
    Timeouts,
    count_parts,
    explain_failure,
    explain_foreign,
    is_missing_object,
    prepare_connection,
)
from dbctl.stores.remote.contract import ConflictError, Entry, Tag

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")

#: Bytes of a part of an upload (the minimum of the protocol), and of a read request.
PART, BLOCK = 5 << 20, 4 << 20
#: The share of the parts of an upload that its expected size takes: the size may be an estimate.
PLANNED_SHARE = 0.9
#: Parts that are sent at the same time; one more than this number is in memory.
CONCURRENT_PARTS = 3
#: The time after which no further attempt of a request starts, and the longest time without a received byte: for reads,
#: short enough for another attempt; for writes, longer because nothing is received while the body is sent.
RETRY_TIMEOUT = timedelta(seconds=60)
READ_TIMEOUT = timedelta(seconds=15)
WRITE_TIMEOUT = timedelta(seconds=60)
#: Seconds between two checks for a signal, and seconds for which a running write is awaited after a signal.
POLL_SECONDS, FINISH_SECONDS = 0.05, 10.0


TOO_LARGE = 'The expected size was too small. Compress the dump with compress = "zstd", or do not stream it: --no-stream.'
#: A key that no object has.
ABSENT_KEY = ".dbctl-nobodys"


class Client:
    part = PART

    def __init__(self, location: str, address: Address, *, timeout: float) -> None:
        """Open no connection yet; ``location`` is for messages, ``timeout`` is the connection timeout in seconds.

        Raises:
            StorageKeysMissingError, StorageSettingInvalidError: as ``prepare_connection``.
        """
        self.location, self._address = location, address
        self._connect: Connect = prepare_connection(address)
        self._timeout = timedelta(seconds=max(1.0, timeout))
        self._has_responded = False  #: whether the last request got a response
        self._clients = dict[tuple[timedelta, timedelta], "ObjectStore"]()  #: by their time limits

    def _client(self, silence: timedelta) -> ObjectStore:
        """Return a client with a time limit for silence, which is short until the server has responded."""
        limits = (silence, RETRY_TIMEOUT) if self._has_responded else (self._timeout, self._timeout)
        if limits not in self._clients:
            self._clients[limits] = self._create_client(*limits)
        return self._clients[limits]

    def _create_client(self, read: timedelta, retry: timedelta) -> ObjectStore:
        try:
            return self._connect(Timeouts(connect=self._timeout, read=read, retry=retry))
        except (BaseError, ValueError) as error:  # the library refuses a setting; its message may contain it
            raise StorageSettingInvalidError(
                setting=f"the keys of {self.location}",
                reason="they are invalid",
                hint="Check the variables and the files that they name.",
            ) from error

    def list_entries(self, prefix: str) -> list[Entry]:
        """Return all objects below ``prefix``, sorted by key, regardless of their number."""
        store = self._client(READ_TIMEOUT)

        def all_pages() -> list[Entry]:
            pages = obstore.list(store, prefix, chunk_size=1000)
            return [_to_entry(entry) for page in pages for entry in page]

        entries = self._call(all_pages)
        if not entries:  # the library parses any web page as an empty list
            self._require_storage(f"{prefix}/{ABSENT_KEY}")
        return sorted(entries, key=lambda entry: entry.key)

    def _require_storage(self, key: str) -> None:
        """Check that the server reports a missing object as missing, which only storage does."""
        try:
            self.get(key)
        except FileNotFoundError:
            return
        raise self._create_error(explain_foreign(self._address))

    def get(
        self, key: str, *, start: int = 0, end: int | None = None, tag: Tag | None = None
    ) -> tuple[Entry, bytes]:
        """Return the metadata of an object, and its bytes from ``start`` up to ``end``; if ``tag`` is set, only of the content with that tag.

        Raises:
            FileNotFoundError: it does not exist.
            ConflictError: its content has changed.
        """
        store, options = self._client(READ_TIMEOUT), dict[str, Any]()
        if end is not None:
            options["range"] = (start, end)
        if tag:
            options["if_match"] = tag.e_tag

        def read_object() -> tuple[Entry, bytes]:
            response = obstore.get(store, key, options=options)  # type: ignore[arg-type]
            return _to_entry(response.meta), bytes(response.bytes())

        tries = 0
        while True:
            try:
                return self._call(read_object, conditional=True)
            except PreconditionError as error:
                raise ConflictError(key) from error
            except StorageFailedError as error:
                if error.context["status"] == EMPTY and not start and options.pop("range", None):
                    continue  # an empty object has no range, but can be read completely
                tries += 1
                # The library does not repeat a request whose response was interrupted.
                if not error.context["cut"] or tries == MAX_ATTEMPTS:
                    raise
            pause(RETRY_PAUSE.total_seconds() * 2 ** (tries - 1))

    def read_blocks(self, key: str) -> Iterator[bytes]:
        """Yield an object in blocks, each with a separate request, so that an interrupted one can be repeated.

        Raises:
            FileNotFoundError: it does not exist.
            ConflictError: its content has changed.
        """
        entry, block = self.get(key, end=BLOCK)
        yield block
        for start in range(BLOCK, entry.bytes, BLOCK):
            later, block = self.get(key, start=start, end=min(start + BLOCK, entry.bytes), tag=entry.tag)
            if later.tag != entry.tag:  # the server ignores the condition of a read
                raise ConflictError(key)
            yield block

    @property
    def can_replace(self) -> bool:
        return True

    def put(self, key: str, content: bytes) -> None:
        """Write a small object, and replace an earlier one."""
        store = self._client(WRITE_TIMEOUT)
        self._call(lambda: obstore.put(store, key, content, use_multipart=False), changes=True)

    def create(self, key: str, content: bytes) -> Tag:
        """Create a small object; return the tag of its content.

        Raises:
            ConflictError: it exists with another content.
        """
        try:
            return self._conditional(key, content, "create")
        except (AlreadyExistsError, PreconditionError) as error:
            # If only the response to the first attempt was lost, the library's second attempt is rejected.
            existing = self._read_existing(key)
            if existing is None or existing[1] != content:
                raise ConflictError(key) from error
            return existing[0].tag

    def find_ignored_condition(self, key: str, content: bytes) -> str:
        """Return the header of a condition that the server ignores for an existing object; empty if it ignores none.

        An ignored condition replaces the object with ``content``.
        """
        for condition, mode in (
            ("If-None-Match", "create"),
            ("If-Match", Tag('"00000000000000000000000000000000"', "1").condition),
        ):
            try:
                self._conditional(key, content, mode)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                continue
            return condition
        return ""

    def exchange(self, key: str, content: bytes, tag: Tag) -> Tag:
        """Replace the object whose content has ``tag``; return the tag of the new content.

        Raises:
            ConflictError: it does not exist, or its content has changed.
        """
        # Ceph compares the header with the tag without its quotes, which it returns with quotes.
        unquoted = Tag(tag.e_tag.strip('"'), tag.version)
        for condition in dict.fromkeys((tag, unquoted)):
            try:
                return self._conditional(key, content, condition.condition)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                existing = self._read_existing(key)
                if existing and existing[1] == content:
                    return existing[0].tag
                if existing is None or existing[0].tag != tag:
                    break
        raise ConflictError(key)

    def _conditional(self, key: str, content: bytes, mode: Any) -> Tag:
        store = self._client(WRITE_TIMEOUT)
        result = self._call(
            lambda: obstore.put(store, key, content, mode=mode), changes=True, conditional=True
        )
        return Tag(result["e_tag"] or "", result["version"] or "")

    def _read_existing(self, key: str) -> tuple[Entry, bytes] | None:
        with suppress(FileNotFoundError):
            return self.get(key)
        return None

    def upload(self, key: str, blocks: Iterable[bytes], size: int) -> None:
        """Write an object of about ``size`` bytes in parts; an interrupted upload is aborted completely.

        All parts have the same size, because some providers refuse others, such as Cloudflare R2 and MEGA S4.

        Raises:
            StorageFailedError: it was not written, or has more bytes than parts of this size can take.
        """
        store, stop = self._client(WRITE_TIMEOUT), threading.Event()
        part_count = count_parts(self._address)
        part = max(PART, math.ceil(size / (PLANNED_SHARE * part_count)))
        remaining = part_count * part

        def interruptible_blocks() -> Iterator[bytes]:
            nonlocal remaining
            for block in blocks:
                remaining -= len(block)
                if remaining < 0 or stop.is_set():
                    raise _StoppedError
                yield block

        def send() -> object:
            return obstore.put(
                store,
                key,
                interruptible_blocks(),
                use_multipart=True,
                chunk_size=part,
                max_concurrency=CONCURRENT_PARTS,
            )

        try:
            self._call(send, changes=True, stop=stop.set)
        except _StoppedError:
            reason = f"the file is larger than {part_count * part:,} bytes, for which its upload was planned"
            raise self._create_error(RequestFailure(reason=reason, hint=TOO_LARGE)) from None

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects one after the other; missing objects are ignored."""
        store = self._client(READ_TIMEOUT)
        for key in keys:
            with suppress(FileNotFoundError):
                self._call(lambda key=key: obstore.delete(store, key), changes=True)  # type: ignore[misc]

    def free_space(self) -> None:
        """Return None: the free space of a bucket is unknown."""

    def run(self, call: Callable[[ObjectStore], T], *, changes: bool = False) -> T:
        """Run a request with the client of the library, which ``changes`` something; ``call`` translates its errors.

        Raises:
            StorageFailedError: as ``call``.
        """
        store = self._client(READ_TIMEOUT)
        return self._call(lambda: call(store), changes=changes)

    def _call(
        self,
        call: Callable[[], T],
        *,
        changes: bool = False,
        conditional: bool = False,
        stop: Callable[[], None] = lambda: None,
    ) -> T:
        """Run a call of the library in a thread, while this one checks for signals.

        On a signal ``stop`` is called. A call that ``changes`` something is awaited: otherwise it could take effect after
        the cleanup. If a call is ``conditional``, the errors of conditions that are not met are raised unchanged.
        """
        response = start_call(call)
        try:
            while not wait([response], POLL_SECONDS).done:
                signals.raise_if_interrupted()
        except BaseException:  # a signal
            stop()
            if changes:
                wait([response], FINISH_SECONDS)
            raise
        try:
            result = response.result()
        except FileNotFoundError as error:  # raised by the library, or for a local file that is sent
            if is_missing_object(str(error), self._address):
                raise
            raise self._create_error(explain_failure(str(error), self._address)) from error
        except BaseError as error:
            if conditional and isinstance(error, (AlreadyExistsError, PreconditionError)):
                raise
            raise self._create_error(explain_failure(str(error), self._address)) from error
        self._has_responded = True
        return result

    def _create_error(self, failure: RequestFailure) -> StorageFailedError:
        if failure.silent:
            self._has_responded = False
        return StorageFailedError(
            place=self.location,
            reason=failure.reason,
            hint=failure.hint,
            cut=failure.cut,
            status=failure.status,
        )


class _StoppedError(Exception):
    """The upload was aborted."""


def _to_entry(meta: Mapping[str, Any]) -> Entry:
    tag = Tag(meta["e_tag"] or "", meta["version"] or "")
    return Entry(key=meta["path"], bytes=meta["size"], tag=tag, at=meta["last_modified"])


def pause(seconds: float) -> None:
    """Wait before another attempt; raises ``Interrupted`` on a signal."""
    deadline = time.monotonic() + seconds
    while (remaining := deadline - time.monotonic()) > 0:
        signals.raise_if_interrupted()
        time.sleep(min(POLL_SECONDS, remaining))
