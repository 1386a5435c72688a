"""Versioning, retention and holds of objects, as the server reports them in the headers of an object, and their locks.

In a bucket with object lock, a lock is set by a request for each object, and read back. The library of object storage can neither
send nor sign the headers of a retention. Its own address of an object, and its keys, are used for these requests, which botocore signs.
"""

from __future__ import annotations

import hashlib
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.message import Message
from functools import partial
from typing import Any, TypeVar, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import obstore
from obstore.store import S3Store

from dbctl.config import s3
from dbctl.config.storage import Address
from dbctl.errors.backup import ObjectLockMissingError, StorageFailedError
from dbctl.errors.usage import require_driver
from dbctl.model import now
from dbctl.stores.base import ObjectLock, Protection
from dbctl.stores.objects.client import ABSENT_KEY, Client, pause
from dbctl.stores.objects.connection import MAX_ATTEMPTS, RETRY_PAUSE, SERVER_FAULT, explain_failure

#: Time for which the address of a request is valid, and the longest time without a response, in seconds.
LIFETIME, TIMEOUT = timedelta(minutes=15), 15
#: The status of a missing object.
NOT_FOUND = 404

#: The headers of an object in which S3 reports its protection. The library returns none, so the request is sent without it.
VERSION = "x-amz-version-id"
RETAINED_UNTIL = "x-amz-object-lock-retain-until-date"
MODE = "x-amz-object-lock-mode"
LEGAL_HOLD = "x-amz-object-lock-legal-hold"


def read_protection(client: Client, address: Address, keys: Sequence[str]) -> Protection:
    """Return the strongest protection of several objects, the newest first; none if the provider does not report it.

    Raises:
        StorageFailedError: the server cannot be reached, or rejects the request.
    """
    if address.scheme != "s3":
        return Protection()
    context = create_context(address)
    versioned, has_hold, times = False, False, list[datetime]()
    for key in keys:
        headers = read_headers(client, address, context, key)
        versioned = versioned or headers.get(VERSION, "null") != "null"
        if not versioned:  # there is no retention without versions
            break
        has_hold = has_hold or headers.get(LEGAL_HOLD, "") == "ON"
        if until := headers.get(RETAINED_UNTIL):
            times.append(datetime.fromisoformat(until))
    return Protection(
        keeps_versions=versioned, retained_until=max(times, default=None), has_legal_hold=has_hold
    )


def create_context(address: Address) -> ssl.SSLContext:
    """Return the context for requests that are sent without the library."""
    authorities = s3.resolve_access(address).authorities
    return ssl.create_default_context(cadata=authorities.decode() if authorities else None)


def read_headers(client: Client, address: Address, context: ssl.SSLContext, key: str) -> Message:
    """Return the headers of an object; none if it does not exist.

    Raises:
        StorageFailedError: the server cannot be reached, or rejects the request.
    """
    return client.run(partial(_send, key=key, client=client, address=address, context=context))


def _send(store: object, *, key: str, client: Client, address: Address, context: ssl.SSLContext) -> Message:
    url = obstore.sign(cast("S3Store", store), "HEAD", key, LIFETIME)
    try:
        return send(Request(url, method="HEAD"), client, address, context)[0]  # noqa: S310 - the library created it
    except StorageFailedError as error:
        if error.context["status"] != NOT_FOUND:
            raise
        return Message()


def send(
    request: Request, client: Client, address: Address, context: ssl.SSLContext
) -> tuple[Message, bytes]:
    """Send a request without the library; return the headers and the content of the response.

    Raises:
        StorageFailedError: the server cannot be reached, or rejects the request.
    """
    try:
        with urlopen(request, timeout=TIMEOUT, context=context) as response:  # noqa: S310 - the library created it
            return cast("Message", response.headers), cast("bytes", response.read())
    except HTTPError as error:
        with error:
            text, status = error.read().decode(errors="replace"), error.code
        failure = explain_failure(f"status code: {status} {text}", address)
    except (URLError, OSError):
        status, failure = 0, explain_failure("", address)
    raise StorageFailedError(place=client.location, reason=failure.reason, hint=failure.hint, status=status)


T = TypeVar("T")

_TEXT_TIME = "%Y-%m-%dT%H:%M:%SZ"
_BODY = (
    '<Retention xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
)
_ENABLED = b"<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
#: How botocore names the sources of temporary keys that the library of object storage has, in the library's order.
_TEMPORARY_KEYS = ("assume-role-with-web-identity", "container-role")
_DENIED, _NOT_IMPLEMENTED = 403, 501


class RetentionLocker:
    """The locks of objects in one bucket."""

    def __init__(self, client: Client, address: Address, object_lock: ObjectLock) -> None:
        """Send nothing yet.

        Raises:
            DriverMissingError: botocore is not installed.
        """
        with require_driver(f"object_lock of {client.location}", driver="botocore", extra="s3"):
            import botocore.auth  # noqa: F401 - an extra, which only this key needs
        self._client, self._address, self._lock = client, address, object_lock
        self._context = create_context(address)

    def find_end(self) -> datetime:
        """Return the end of a lock that begins now, in whole seconds."""
        return now().replace(microsecond=0) + self._lock.period + timedelta(seconds=1)

    def require_supported(self) -> None:
        """Check that the bucket has object lock, before anything is written.

        Raises:
            ObjectLockMissingError: it has none.
            StorageFailedError: the server cannot be reached, or the key lacks a permission.
        """
        try:
            content = self._request("GET", "", "object-lock")
        except StorageFailedError as error:
            if error.context.get("status") not in {NOT_FOUND, _NOT_IMPLEMENTED}:
                raise
            content = b""
        if _ENABLED not in content:
            raise ObjectLockMissingError(place=self._client.location, bucket=self._address.bucket)

    def lock(self, keys: Sequence[str], until: datetime) -> None:
        """Lock objects until a time, and read it back; one that is already locked as strictly and as long is unchanged.

        Raises:
            StorageFailedError: the server refuses it, or does not report the lock afterwards.
        """
        for key in keys:
            if not self._is_locked(key, until):
                body = _BODY.format(mode=self._lock.mode.upper(), until=until.strftime(_TEXT_TIME))
                self._request("PUT", key, "retention", body.encode())
                if not self._is_locked(key, until):
                    reason = "it does not report the lock that it has accepted"
                    raise self._create_error(reason, "Do not rely on object lock of this storage.")

    def _is_locked(self, key: str, until: datetime) -> bool:
        headers = _repeat(lambda: read_headers(self._client, self._address, self._context, key))
        end, mode = headers.get(RETAINED_UNTIL, ""), headers.get(MODE, "")
        is_strict = mode == self._lock.mode.upper() or mode == "COMPLIANCE"
        return bool(end) and is_strict and datetime.fromisoformat(end).astimezone(UTC) >= until

    def _request(self, method: str, key: str, query: str, body: bytes = b"") -> bytes:
        """Send a request to an object, or to the bucket without ``key``; return the content of the response."""
        call = partial(self._send, method=method, key=key, query=query, body=body)
        return _repeat(lambda: self._client.run(call, changes=bool(body)))

    def _send(self, store: object, *, method: str, key: str, query: str, body: bytes) -> bytes:
        url = obstore.sign(cast("S3Store", store), "PUT", key or ABSENT_KEY, LIFETIME).partition("?")[0]
        if not key:
            url = url.removesuffix(f"/{ABSENT_KEY}")
            url += "" if urlsplit(url).path else "/"
        request = Request(  # noqa: S310 - the library created it
            f"{url}?{query}",
            data=body or None,
            headers=self._sign(method, f"{url}?{query}", body),
            method=method,
        )
        try:
            return send(request, self._client, self._address, self._context)[1]
        except StorageFailedError as error:
            if error.context["status"] != _DENIED:
                raise
            hint = (
                "object_lock requires the permissions GetBucketObjectLockConfiguration on the bucket, and"
                " PutObjectRetention and GetObjectRetention below the prefix. No object was locked for shorter."
            )
            raise self._create_error(str(error.context["reason"]), hint, _DENIED) from error

    def _sign(self, method: str, url: str, body: bytes) -> Mapping[str, str]:
        """Return the headers of a request, signed with the keys that the library of object storage uses."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError, ClientError

        # the protocol requires it, whatever the algorithm of the signature is
        digest = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        request = AWSRequest(method, url, data=body, headers={"Content-MD5": digest} if body else {})
        access = s3.resolve_access(self._address)
        try:
            credentials = _find_credentials(access)
        except (BotoCoreError, ClientError) as error:
            hint = "Check the role of this container or cluster. No object was locked for shorter."
            # as a denied request: botocore has repeated it
            raise self._create_error("its temporary keys cannot be fetched", hint, _DENIED) from error
        S3SigV4Auth(credentials, "s3", access.region).add_auth(request)
        return {name: str(value) for name, value in request.headers.items()}

    def _create_error(self, reason: str, hint: str, status: int = 0) -> StorageFailedError:
        return StorageFailedError(place=self._client.location, reason=reason, hint=hint, status=status)


def _repeat(call: Callable[[], T]) -> T:
    """Repeat a request whose connection or server failed: one request must not cost a backup of hours."""
    attempt = 0
    while True:
        try:
            return call()
        except StorageFailedError as error:
            is_rejected = 0 < cast("int", error.context.get("status", 0)) < SERVER_FAULT
            if is_rejected or attempt == MAX_ATTEMPTS - 1:
                raise
        pause(RETRY_PAUSE.total_seconds() * 2**attempt)
        attempt += 1


def _find_credentials(access: s3.Access) -> Any:
    from botocore.credentials import Credentials
    from botocore.session import Session

    if keys := access.keys:
        return Credentials(keys.key, keys.secret.reveal(), keys.token.reveal() if keys.token else None)
    resolver = Session().get_component("credential_provider")
    providers = (resolver.get_provider(name) for name in _TEMPORARY_KEYS)
    credentials = next(filter(None, (provider.load() for provider in providers)))
    return credentials.get_frozen_credentials()
