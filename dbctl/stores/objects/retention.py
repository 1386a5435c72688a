"""Locks of objects in a bucket with object lock: set by a request for each object, and read back.

The library of object storage can neither send nor sign the headers of a retention. Its own address of an object, and its keys,
are used for these requests, which botocore signs.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit
from urllib.request import Request

import obstore
from obstore.store import S3Store

from dbctl.config import s3
from dbctl.config.storage import Address
from dbctl.errors.backup import ObjectLockMissingError, StorageFailedError
from dbctl.errors.usage import require_driver
from dbctl.model import now
from dbctl.stores.base import ObjectLock
from dbctl.stores.objects.client import ABSENT_KEY, Client, pause
from dbctl.stores.objects.connection import MAX_ATTEMPTS, RETRY_PAUSE
from dbctl.stores.objects.errors import SERVER_FAULT
from dbctl.stores.objects.protection import (
    LIFETIME,
    MODE,
    NOT_FOUND,
    RETAINED_UNTIL,
    create_context,
    read_headers,
    send,
)

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
        url = obstore.sign(cast(S3Store, store), "PUT", key or ABSENT_KEY, LIFETIME).partition("?")[0]
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
            is_rejected = 0 < cast(int, error.context.get("status", 0)) < SERVER_FAULT
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
