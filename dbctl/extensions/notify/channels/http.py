"""One HTTP request: no redirect is followed, and no response is read."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping

from dbctl.extensions.notify.addresses import HttpAddress
from dbctl.extensions.notify.channels.base import SOCKET_SECONDS, SendFailedError
from dbctl.http_client import REDIRECT_STATUSES, create_opener, explain_error
from dbctl.model import join_hint

_SUCCESSES = range(200, 300)
_REJECTED = frozenset({401, 403})


def post(
    address: HttpAddress, body: bytes, headers: Mapping[str, str], *, path: str = "", query: str = ""
) -> None:
    """Send a request; ``path`` and ``query`` are added to those of the address.

    Raises:
        SendFailedError: it was not accepted.
    """
    request = urllib.request.Request(  # noqa: S310 - an address has the scheme http or https
        address.extend(path, query), data=body, headers={"User-Agent": "dbctl", **headers}, method="POST"
    )
    try:
        status = _open(address, request)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason, hint = explain_error(error, "")
        raise SendFailedError(join_hint(reason, hint)) from None
    if status in REDIRECT_STATUSES:
        raise SendFailedError(
            f"it redirects to another address ({status}), which is not followed. Set url to that address."
        )
    if status in _REJECTED:
        raise SendFailedError(f"it responds with {status}. Check the token, or the address.")
    if status not in _SUCCESSES:
        raise SendFailedError(f"it responds with {status}")


def _open(address: HttpAddress, request: urllib.request.Request) -> int:
    """Return the status of the response, whose body is not read."""
    try:
        with create_opener(address.endpoint).open(request, timeout=SOCKET_SECONDS) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:  # also a response
        with error:
            return error.code
