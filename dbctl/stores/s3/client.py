"""Requests to storage that speaks S3: bounded in memory and time, heard by signals, their failures told in few words.

The library signs each request with the SHA-256 of its body, which a server has to check, and tries again by itself what
failed on the way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dbctl import signals
from dbctl.config import Access
from dbctl.errors import DriverMissingError, StorageFailedError
from dbctl.model import Value
from dbctl.stores.s3.errors import EMPTY, FOREIGN, told

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config, S3Credential, S3Store

T = TypeVar("T")

#: Bytes of a part of an upload, as few as the protocol allows, and of what is read by one request.
PART, PIECE = 5 << 20, 4 << 20
#: An upload has at most 10,000 parts.
PARTS = 9_000
#: Parts that are on their way at a time; so many are in memory, and one more.
AT_ONCE = 3
#: Tries of one request, the seconds between the first two, and after which no further one begins.
TRIES, FIRST_PAUSE, GIVE_UP = 5, timedelta(milliseconds=100), timedelta(seconds=60)
#: The longest time without a byte of an answer: to what reads, so that there is time to ask again, and to what writes,
#: whose body is on its way meanwhile. And the longest time of a whole request.
READ_SILENCE, WRITE_SILENCE, REQUEST = timedelta(seconds=15), timedelta(seconds=60), timedelta(seconds=300)
#: Seconds between two looks for a signal, and for which what changes something may come to its end after one.
LOOK, CLEARING = 0.05, 10.0


#: A key that no object has.
NOBODYS = ".dbctl-nobodys"


class Entry(Value, frozen=True, kw_only=True):
    """An object as a list or its head tells it."""

    key: str
    bytes: int
    tag: str  #: changes with its content
    at: datetime  #: when it was written, by the clock of the server


class Taken(Exception):  # noqa: N818 - an answer
    """What was to be made is there already, or is no longer what was to be exchanged."""


class Client:
    """One bucket."""

    def __init__(self, place: str, bucket: str, access: Access, *, timeout: float) -> None:
        """Reach nothing yet; ``place`` is how messages call it, ``timeout`` the seconds to wait for a connection."""
        self._place, self._bucket, self._access = place, bucket, access
        self._timeout = timedelta(seconds=max(1.0, timeout))
        self._met = False  #: whether the server has granted anything yet, and has not fallen silent since
        try:
            import obstore.store  # noqa: F401 - an extra
        except ImportError as error:
            reason = str(error).splitlines()[0]
            raise DriverMissingError(target=place, driver="obstore", extra="s3", reason=reason) from error

    @property
    def _store(self) -> S3Store:
        """What reads; a server that was never met, or has fallen silent, is not waited for for long."""
        return self._patient if self._met else self._brief

    @property
    def _writing(self) -> S3Store:
        """What writes, as ``_store``."""
        return self._patient_writing if self._met else self._brief

    @cached_property
    def _brief(self) -> S3Store:
        return self._made(give_up=self._timeout, silence=self._timeout)

    @cached_property
    def _patient(self) -> S3Store:
        return self._made(give_up=GIVE_UP, silence=READ_SILENCE)

    @cached_property
    def _patient_writing(self) -> S3Store:
        return self._made(give_up=GIVE_UP, silence=WRITE_SILENCE)

    def _made(self, *, give_up: timedelta, silence: timedelta) -> S3Store:
        from obstore.store import S3Store

        # A bucket has a host of its own at AWS alone, and there no certificate for a name with dots.
        hosted = not self._access.endpoint and "." not in self._bucket
        endpoint = self._access.endpoint or _aws(self._access.region, self._bucket if hosted else "")
        settings: S3Config = {
            "region": self._access.region,
            # Else the variables of these names would count more than a profile.
            "endpoint": endpoint,
            "aws_endpoint_url_s3": endpoint,
            "virtual_hosted_style_request": hosted,
            "skip_signature": False,
            "unsigned_payload": False,
            "disable_bulk_delete": True,  # many servers do not know it, and a folder has few files
        }
        keys, given = self._access.keys, {}
        if keys is not None:
            lent: S3Credential = {
                "access_key_id": keys.key,
                "secret_access_key": keys.secret.reveal(),
                "token": keys.token.reveal() if keys.token else None,
                "expires_at": None,
            }
            given["credential_provider"] = lambda: lent
        options: ClientConfig = {
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": self._timeout,
            "read_timeout": silence,
            "timeout": REQUEST,
        }
        if self._access.authorities:
            options["root_certificate"] = self._access.authorities
        return S3Store(
            self._bucket,
            config=settings,
            client_options=options,
            retry_config={
                "max_retries": TRIES - 1,
                "retry_timeout": give_up,
                "backoff": {
                    "init_backoff": FIRST_PAUSE,
                    "max_backoff": timedelta(seconds=10),
                    "base": 2,
                },
            },
            **given,  # type: ignore[arg-type]
        )

    def entries(self, prefix: str) -> list[Entry]:
        """Return all objects below ``prefix``, in the order of their keys, however many there are."""
        import obstore

        store = self._store

        def all_pages() -> list[Entry]:
            pages = obstore.list(store, prefix, chunk_size=1000)
            return [_entry(one) for page in pages for one in page]

        found = self._asked(all_pages)
        if not found:  # the library reads any page of the web as an empty list
            self._missed(f"{prefix}/{NOBODYS}")
        return sorted(found, key=lambda one: one.key)

    def _missed(self, key: str) -> None:
        """Make sure that it tells of an object that is not there, as nothing but storage does."""
        try:
            self.get(key)
        except FileNotFoundError:
            return
        reason, instead = FOREIGN
        raise StorageFailedError(place=self._place, reason=reason, instead=instead)

    def get(self, key: str, *, start: int = 0, end: int | None = None, tag: str = "") -> tuple[Entry, bytes]:
        """Return what an object is, and its bytes from ``start`` to before ``end``; of the content ``tag`` alone.

        Raises:
            FileNotFoundError: there is none.
            Taken: its content is another one by now.
        """
        import obstore
        from obstore.exceptions import PreconditionError

        store, options = self._store, dict[str, Any]()
        if end is not None:
            options["range"] = (start, end)
        if tag:
            options["if_match"] = tag

        def whole() -> tuple[Entry, bytes]:
            found = obstore.get(store, key, options=options)  # type: ignore[arg-type]
            return _entry(found.meta), bytes(found.bytes())

        tries = 0
        while True:
            try:
                return self._asked(whole)
            except PreconditionError as error:
                raise Taken(key) from error
            except StorageFailedError as error:
                if error.facts["status"] == EMPTY and not start and options.pop("range", None):
                    continue  # nothing has no range, but it can be asked for whole
                tries += 1
                # The library begins no answer anew that was cut off.
                if not error.facts["cut"] or tries == TRIES:
                    raise
            _paused(FIRST_PAUSE.total_seconds() * 2 ** (tries - 1))

    def blocks(self, key: str) -> Iterator[bytes]:
        """Yield an object in blocks, each by a request of its own, so that one that is cut off is asked for again.

        Raises:
            FileNotFoundError: there is none.
            Taken: its content is another one by now.
        """
        entry, block = self.get(key, end=PIECE)
        yield block
        for start in range(PIECE, entry.bytes, PIECE):
            yield self.get(key, start=start, end=min(start + PIECE, entry.bytes), tag=entry.tag)[1]

    def put(self, key: str, content: bytes) -> None:
        """Write a small object, in place of an earlier one."""
        import obstore

        store = self._writing
        self._asked(lambda: obstore.put(store, key, content, use_multipart=False), changes=True)

    def create(self, key: str, content: bytes) -> str:
        """Write a small object where none is; return the tag of its content.

        Raises:
            Taken: there is one, with another content.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            return self._conditional(key, content, "create")
        except (AlreadyExistsError, PreconditionError) as error:
            return self._written(key, content, error)

    def is_created_once(self, key: str, content: bytes) -> bool:
        """Whether an object that is there keeps the same one from being created again, as it must."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            self._conditional(key, content, "create")
        except (AlreadyExistsError, PreconditionError):
            return True
        return False

    def exchange(self, key: str, content: bytes, tag: str) -> str:
        """Write an object in place of the one whose content is ``tag``; return the tag of the new content.

        Raises:
            Taken: it is gone, or its content is another one.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            return self._conditional(key, content, {"e_tag": tag})
        except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
            return self._written(key, content, error)

    def _conditional(self, key: str, content: bytes, mode: Any) -> str:
        import obstore

        store = self._writing
        made = self._asked(lambda: obstore.put(store, key, content, mode=mode), changes=True)
        return made["e_tag"] or ""

    def _written(self, key: str, content: bytes, error: Exception) -> str:
        """Return the tag of an object that was refused, when it is there all the same.

        The library's second try is refused when only the answer to the first was lost.
        """
        with suppress(FileNotFoundError):
            found, held = self.get(key)
            if held == content:
                return found.tag
        raise Taken(key) from error

    def upload(self, key: str, blocks: Iterable[bytes], size: int) -> None:
        """Write an object of about ``size`` bytes from its content, in parts; one that is cut off is given up whole."""
        import obstore

        store, stop = self._writing, threading.Event()

        def going() -> Iterator[bytes]:
            for block in blocks:
                if stop.is_set():
                    raise _StoppedError
                yield block

        def send() -> object:
            return obstore.put(
                store,
                key,
                going(),
                use_multipart=True,
                chunk_size=max(PART, -(-size // PARTS)),
                max_concurrency=AT_ONCE,
            )

        self._asked(send, changes=True, stop=stop.set)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, one after the other; those that are gone already are no failure."""
        import obstore

        store = self._store
        for key in keys:
            self._asked(lambda key=key: obstore.delete(store, key), changes=True)  # type: ignore[misc]

    def _asked(
        self, call: Callable[[], T], *, changes: bool = False, stop: Callable[[], None] = lambda: None
    ) -> T:
        """Let the library do its work beside this thread, which listens for signals meanwhile.

        On a signal ``stop`` is called. What ``changes`` something is waited for: else it could still be done once
        everything of it was taken away again.
        """
        from obstore.exceptions import (
            AlreadyExistsError,
            BaseError,
            PreconditionError,
        )

        done = _Beside(call)
        try:
            while not done.wait(LOOK):
                signals.check()
        except BaseException:  # a signal
            stop()
            if changes:
                done.wait(CLEARING)
            raise
        try:
            answer = done.result()
        except (AlreadyExistsError, PreconditionError):
            raise
        except FileNotFoundError as error:  # of the library, or of a file that is sent
            if "status code: 404" in str(error) and "<Code>NoSuchKey</Code>" not in str(error):
                raise self._failed(error) from error
            raise
        except BaseError as error:
            raise self._failed(error) from error
        self._met = True
        return answer

    def _failed(self, error: Exception) -> StorageFailedError:
        why = told(str(error), self._bucket)
        if why.silent:
            self._met = False
        return StorageFailedError(
            place=self._place, reason=why.reason, instead=why.instead, cut=why.cut, status=why.status
        )


class _StoppedError(Exception):
    """The upload is given up."""


class _Beside(Generic[T]):
    """A call in a thread of its own, which ends with the process whatever it waits for."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call, self._ended = call, threading.Event()
        self._answers = list[T]()
        self._error: BaseException | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._answers.append(self._call())
        except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
            self._error = error
        finally:
            self._ended.set()

    def wait(self, seconds: float) -> bool:
        return self._ended.wait(seconds)

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._answers[0]


def _aws(region: str, bucket: str) -> str:
    """Return the endpoint of AWS in a region, or of one bucket there."""
    china = ".cn" if region.startswith("cn-") else ""
    return f"https://{bucket and f'{bucket}.'}s3.{region}.amazonaws.com{china}"


def _entry(meta: Mapping[str, Any]) -> Entry:
    return Entry(key=meta["path"], bytes=meta["size"], tag=meta["e_tag"] or "", at=meta["last_modified"])


def _paused(seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        signals.check()
        time.sleep(min(LOOK, left))
