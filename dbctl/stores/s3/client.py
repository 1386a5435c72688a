"""Requests to storage with the S3 protocol: bounded memory and time, interruptible, with short error messages.

The library signs each request with the SHA-256 of its body, which the server has to check, and repeats requests whose
connection failed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store

from dbctl import signals
from dbctl.config import Access
from dbctl.errors import StorageFailedError
from dbctl.model import Struct
from dbctl.stores.s3.errors import EMPTY, FOREIGN, explain_failure

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config, S3Credential

T = TypeVar("T")

#: Bytes of a part of an upload (the minimum of the protocol), and of a read request.
PART, BLOCK = 5 << 20, 4 << 20
#: An upload has at most 10,000 parts.
MAX_PARTS = 9_000
#: Parts that are sent at the same time; one more than this number is in memory.
CONCURRENT_PARTS = 3
#: Attempts of one request, the pause before the second one, and the time after which no further attempt starts.
MAX_ATTEMPTS, RETRY_PAUSE, RETRY_TIMEOUT = 5, timedelta(milliseconds=100), timedelta(seconds=60)
#: The longest time without a received byte: for reads, short enough for another attempt; for writes, longer because
#: nothing is received while the body is sent. And the longest time of a whole request.
READ_TIMEOUT, WRITE_TIMEOUT, REQUEST_TIMEOUT = (
    timedelta(seconds=15),
    timedelta(seconds=60),
    timedelta(seconds=300),
)
#: Seconds between two checks for a signal, and seconds for which a running write is awaited after a signal.
POLL_SECONDS, FINISH_SECONDS = 0.05, 10.0


#: A key that no object has.
ABSENT_KEY = ".dbctl-nobodys"


class Entry(Struct, frozen=True, kw_only=True):
    """The metadata of an object."""

    key: str
    bytes: int
    tag: str  #: changes with its content
    at: datetime  #: by the clock of the server


class ConflictError(Exception):
    """The object to create exists already, or the object to replace has changed."""


class Client:
    """One bucket."""

    def __init__(self, location: str, bucket: str, access: Access, *, timeout: float) -> None:
        """Open no connection yet; ``location`` is for messages, ``timeout`` is the connection timeout in seconds."""
        self._location, self._bucket, self._access = location, bucket, access
        self._timeout = timedelta(seconds=max(1.0, timeout))
        self._has_responded = False  #: whether the last request got a response

    @property
    def _read_client(self) -> S3Store:
        """The client for reads, with short timeouts until the server has responded."""
        return self._responding_read_client if self._has_responded else self._first_client

    @property
    def _write_client(self) -> S3Store:
        """The client for writes, with short timeouts until the server has responded."""
        return self._responding_write_client if self._has_responded else self._first_client

    @cached_property
    def _first_client(self) -> S3Store:
        return self._create_store(retry_timeout=self._timeout, read_timeout=self._timeout)

    @cached_property
    def _responding_read_client(self) -> S3Store:
        return self._create_store(retry_timeout=RETRY_TIMEOUT, read_timeout=READ_TIMEOUT)

    @cached_property
    def _responding_write_client(self) -> S3Store:
        return self._create_store(retry_timeout=RETRY_TIMEOUT, read_timeout=WRITE_TIMEOUT)

    def _create_store(self, *, retry_timeout: timedelta, read_timeout: timedelta) -> S3Store:
        # Only AWS has a separate host for each bucket, and there no certificate covers a name with dots.
        hosted = not self._access.endpoint and "." not in self._bucket
        endpoint = self._access.endpoint or _aws_endpoint(self._access.region, self._bucket if hosted else "")
        settings: S3Config = {
            "region": self._access.region,
            # Otherwise the environment variables of these names would override a profile.
            "endpoint": endpoint,
            "aws_endpoint_url_s3": endpoint,
            "virtual_hosted_style_request": hosted,
            "skip_signature": False,
            "unsigned_payload": False,
            "disable_bulk_delete": True,  # many servers do not support it, and a folder has few files
        }
        keys, credentials = self._access.keys, {}
        if keys is not None:
            credential: S3Credential = {
                "access_key_id": keys.key,
                "secret_access_key": keys.secret.reveal(),
                "token": keys.token.reveal() if keys.token else None,
                "expires_at": None,
            }
            credentials["credential_provider"] = lambda: credential
        options: ClientConfig = {
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": self._timeout,
            "read_timeout": read_timeout,
            "timeout": REQUEST_TIMEOUT,
        }
        if self._access.authorities:
            options["root_certificate"] = self._access.authorities
        return S3Store(
            self._bucket,
            config=settings,
            client_options=options,
            retry_config={
                "max_retries": MAX_ATTEMPTS - 1,
                "retry_timeout": retry_timeout,
                "backoff": {
                    "init_backoff": RETRY_PAUSE,
                    "max_backoff": timedelta(seconds=10),
                    "base": 2,
                },
            },
            **credentials,  # type: ignore[arg-type]
        )

    def list_entries(self, prefix: str) -> list[Entry]:
        """Return all objects below ``prefix``, sorted by key, regardless of their number."""
        store = self._read_client

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
        reason, hint = FOREIGN
        raise StorageFailedError(place=self._location, reason=reason, hint=hint)

    def get(self, key: str, *, start: int = 0, end: int | None = None, tag: str = "") -> tuple[Entry, bytes]:
        """Return the metadata of an object, and its bytes from ``start`` up to ``end``; if ``tag`` is set, only of the content with that tag.

        Raises:
            FileNotFoundError: it does not exist.
            ConflictError: its content has changed.
        """
        store, options = self._read_client, dict[str, Any]()
        if end is not None:
            options["range"] = (start, end)
        if tag:
            options["if_match"] = tag

        def read_object() -> tuple[Entry, bytes]:
            response = obstore.get(store, key, options=options)  # type: ignore[arg-type]
            return _to_entry(response.meta), bytes(response.bytes())

        tries = 0
        while True:
            try:
                return self._call(read_object)
            except PreconditionError as error:
                raise ConflictError(key) from error
            except StorageFailedError as error:
                if error.context["status"] == EMPTY and not start and options.pop("range", None):
                    continue  # an empty object has no range, but can be read completely
                tries += 1
                # The library does not repeat a request whose response was interrupted.
                if not error.context["cut"] or tries == MAX_ATTEMPTS:
                    raise
            _pause(RETRY_PAUSE.total_seconds() * 2 ** (tries - 1))

    def read_blocks(self, key: str) -> Iterator[bytes]:
        """Yield an object in blocks, each with a separate request, so that an interrupted one can be repeated.

        Raises:
            FileNotFoundError: it does not exist.
            ConflictError: its content has changed.
        """
        entry, block = self.get(key, end=BLOCK)
        yield block
        for start in range(BLOCK, entry.bytes, BLOCK):
            yield self.get(key, start=start, end=min(start + BLOCK, entry.bytes), tag=entry.tag)[1]

    def put(self, key: str, content: bytes) -> None:
        """Write a small object, and replace an earlier one."""
        store = self._write_client
        self._call(lambda: obstore.put(store, key, content, use_multipart=False), changes=True)

    def create(self, key: str, content: bytes) -> str:
        """Create a small object; return the tag of its content.

        Raises:
            ConflictError: it exists with another content.
        """
        try:
            return self._conditional(key, content, "create")
        except (AlreadyExistsError, PreconditionError) as error:
            return self._existing_tag(key, content, error)

    def is_created_once(self, key: str, content: bytes) -> bool:
        """Whether the server rejects the creation of an existing object, as it must."""
        try:
            self._conditional(key, content, "create")
        except (AlreadyExistsError, PreconditionError):
            return True
        return False

    def exchange(self, key: str, content: bytes, tag: str) -> str:
        """Replace the object whose content has ``tag``; return the tag of the new content.

        Raises:
            ConflictError: it does not exist, or its content has changed.
        """
        try:
            return self._conditional(key, content, {"e_tag": tag})
        except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
            return self._existing_tag(key, content, error)

    def _conditional(self, key: str, content: bytes, mode: Any) -> str:
        store = self._write_client
        result = self._call(lambda: obstore.put(store, key, content, mode=mode), changes=True)
        return result["e_tag"] or ""

    def _existing_tag(self, key: str, content: bytes, error: Exception) -> str:
        """Return the tag of an object whose creation was rejected, if it has the same content.

        If only the response to the first attempt was lost, the library's second attempt is rejected.
        """
        with suppress(FileNotFoundError):
            entry, current = self.get(key)
            if current == content:
                return entry.tag
        raise ConflictError(key) from error

    def upload(self, key: str, blocks: Iterable[bytes], size: int) -> None:
        """Write an object of about ``size`` bytes in parts; an interrupted upload is aborted completely."""
        store, stop = self._write_client, threading.Event()

        def interruptible_blocks() -> Iterator[bytes]:
            for block in blocks:
                if stop.is_set():
                    raise _StoppedError
                yield block

        def send() -> object:
            return obstore.put(
                store,
                key,
                interruptible_blocks(),
                use_multipart=True,
                chunk_size=max(PART, -(-size // MAX_PARTS)),
                max_concurrency=CONCURRENT_PARTS,
            )

        self._call(send, changes=True, stop=stop.set)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects one after the other; missing objects are ignored."""
        store = self._read_client
        for key in keys:
            self._call(lambda key=key: obstore.delete(store, key), changes=True)  # type: ignore[misc]

    def _call(
        self, call: Callable[[], T], *, changes: bool = False, stop: Callable[[], None] = lambda: None
    ) -> T:
        """Run a call of the library in a thread, while this one checks for signals.

        On a signal ``stop`` is called. A call that ``changes`` something is awaited: otherwise it could take effect after
        the cleanup.
        """
        call_in_background = _BackgroundCall(call)
        try:
            while not call_in_background.wait(POLL_SECONDS):
                signals.raise_if_interrupted()
        except BaseException:  # a signal
            stop()
            if changes:
                call_in_background.wait(FINISH_SECONDS)
            raise
        try:
            result = call_in_background.result()
        except (AlreadyExistsError, PreconditionError):
            raise
        except FileNotFoundError as error:  # raised by the library, or for a local file that is sent
            if "status code: 404" in str(error) and "<Code>NoSuchKey</Code>" not in str(error):
                raise self._failed(error) from error
            raise
        except BaseError as error:
            raise self._failed(error) from error
        self._has_responded = True
        return result

    def _failed(self, error: Exception) -> StorageFailedError:
        failure = explain_failure(str(error), self._bucket)
        if failure.silent:
            self._has_responded = False
        return StorageFailedError(
            place=self._location,
            reason=failure.reason,
            hint=failure.hint,
            cut=failure.cut,
            status=failure.status,
        )


class _StoppedError(Exception):
    """The upload was aborted."""


class _BackgroundCall(Generic[T]):
    """A call in a daemon thread, which does not delay the end of the process."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call, self._is_ended = call, threading.Event()
        self._results = list[T]()
        self._error: BaseException | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 - raised again in ``result``
            self._error = error
        finally:
            self._is_ended.set()

    def wait(self, seconds: float) -> bool:
        return self._is_ended.wait(seconds)

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._results[0]


def _aws_endpoint(region: str, bucket: str) -> str:
    """Return the endpoint of AWS for a region, or for one bucket in it."""
    china = ".cn" if region.startswith("cn-") else ""
    return f"https://{bucket and f'{bucket}.'}s3.{region}.amazonaws.com{china}"


def _to_entry(meta: Mapping[str, Any]) -> Entry:
    return Entry(key=meta["path"], bytes=meta["size"], tag=meta["e_tag"] or "", at=meta["last_modified"])


def _pause(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (remaining := deadline - time.monotonic()) > 0:
        signals.raise_if_interrupted()
        time.sleep(min(POLL_SECONDS, remaining))
