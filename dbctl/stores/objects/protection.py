"""Versioning, retention and holds of objects, as the server reports them in the headers of an object."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta
from email.message import Message
from functools import partial
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import obstore
from obstore.store import S3Store

from dbctl.config import s3
from dbctl.config.storage import Address
from dbctl.errors.backup import StorageFailedError
from dbctl.stores.base import Protection
from dbctl.stores.objects.client import Client
from dbctl.stores.objects.errors import explain_failure

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
    url = obstore.sign(cast(S3Store, store), "HEAD", key, LIFETIME)
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
            return cast(Message, response.headers), cast(bytes, response.read())
    except HTTPError as error:
        text, status = error.read().decode(errors="replace"), error.code
        failure = explain_failure(f"status code: {status} {text}", address)
    except (URLError, OSError):
        status, failure = 0, explain_failure("", address)
    raise StorageFailedError(place=client.location, reason=failure.reason, hint=failure.hint, status=status)
