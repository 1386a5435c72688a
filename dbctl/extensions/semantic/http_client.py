"""One HTTP request to an embedding service, with a timeout, a size limit and without redirects.

Messages contain only error codes of a response, because its text may contain the key.
"""

from __future__ import annotations

import http.client
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import msgspec

from dbctl import signals
from dbctl.extensions.semantic.errors import (
    EmbedderBusyError,
    EmbedderFailedError,
    EmbedderRefusedError,
    EmbedderUnreachableError,
)
from dbctl.http_client import REDIRECT_STATUSES, RETRY_HINT, create_opener, explain_error
from dbctl.model import JSON_ERRORS, Secret
from dbctl.url import Endpoint

#: Maximum bytes of a response; the longest vector is smaller.
MAX_RESPONSE_BYTES = 4 << 20
BLOCK = 1 << 16
#: Status codes after which the request is repeated.
RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
TOO_MANY_REQUESTS = 429
KEY_REJECTED_STATUSES = frozenset({401, 403})
SERVER_ERROR = 500  #: the lowest status of server errors
#: Seconds before a repetition, doubled each time.
FIRST_PAUSE, MAX_PAUSE = 0.5, 8.0
NETWORK_HINT = "Check url under [apps.NAME.embedder], and the network."
URL_HINT = "Check url, which must include the version of the service, and model under [apps.NAME.embedder]."
_CODE = re.compile(r"[A-Za-z][A-Za-z_]{2,59}")


class HttpRequest(NamedTuple):
    """A request and its timeout."""

    endpoint: Endpoint
    path: str  #: below the path of the endpoint
    headers: Mapping[str, str]
    body: object  #: as JSON
    timeout: float  #: in seconds, including repetitions
    key: Secret | None = None  #: never shown in messages
    key_source: str = ""  #: the variable or file of the key, for messages

    @property
    def place(self) -> str:
        """The address for messages."""
        return str(self.endpoint)


class _Response(NamedTuple):
    status: int
    body: bytes
    wait: float | None  #: seconds of Retry-After, if any


def send_request(request: HttpRequest) -> Any:
    """Return the JSON response of a service; repeat the request while the service is overloaded.

    Raises:
        EmbedderUnreachableError, EmbedderBusyError, EmbedderRefusedError, EmbedderFailedError: the request failed.
    """
    retried = list[_Response]()
    try:
        with signals.time_limit(request.timeout):
            body = _send_with_retries(request, retried)
    except TimeoutError as error:
        if retried:
            _raise_error(request, retried[-1])
        raise EmbedderUnreachableError(
            place=request.place,
            reason=f"it did not respond within {request.timeout:g} s",
            hint="Try again, or increase timeout under [apps.NAME.embedder].",
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason, hint = explain_error(error, NETWORK_HINT)
        raise EmbedderUnreachableError(place=request.place, reason=reason, hint=hint) from error
    try:
        return msgspec.json.decode(body)
    except JSON_ERRORS as error:
        raise EmbedderFailedError(
            place=request.place, reason="the response is not JSON", hint=URL_HINT
        ) from error


def _send_with_retries(request: HttpRequest, retried: list[_Response]) -> bytes:
    """Return the body of the successful response; responses that cause a repetition are appended to ``retried``."""
    body = msgspec.json.encode(request.body)
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "dbctl"}
    urllib_request = urllib.request.Request(  # noqa: S310 - an endpoint has the scheme http or https
        f"{request.endpoint}{request.path}", data=body, headers={**headers, **request.headers}, method="POST"
    )
    opener = create_opener(request.endpoint)
    deadline = time.monotonic() + request.timeout
    pause = FIRST_PAUSE
    while True:
        response = _send_once(opener, urllib_request, request)
        if response.status == http.client.OK:
            return response.body
        wait = response.wait if response.wait is not None else pause * random.uniform(0.5, 1)  # noqa: S311 - no secret
        if response.status not in RETRY_STATUSES or time.monotonic() + wait >= deadline:
            _raise_error(request, response)
        retried.append(response)
        time.sleep(wait)
        pause = min(2 * pause, MAX_PAUSE)


def _send_once(
    opener: urllib.request.OpenerDirector, urllib_request: urllib.request.Request, request: HttpRequest
) -> _Response:
    try:
        response = opener.open(urllib_request, timeout=request.timeout)
    except urllib.error.HTTPError as error:  # also a response
        response = error
    with response:
        body = bytearray()
        while block := response.read(BLOCK):
            body += block
            if len(body) > MAX_RESPONSE_BYTES:
                raise EmbedderFailedError(
                    place=request.place,
                    reason=f"its response is larger than {MAX_RESPONSE_BYTES >> 20} MiB",
                    hint=URL_HINT,
                )
        expected = response.headers.get("Content-Length", "")
        if expected.isascii() and expected.isdigit() and int(expected) > len(body):
            raise http.client.IncompleteRead(bytes(body))
        retry_after = response.headers.get("Retry-After", "")
        wait = float(retry_after) if re.fullmatch(r"[0-9]{1,6}", retry_after) else None
        return _Response(response.status or 0, bytes(body), wait)


def _raise_error(request: HttpRequest, response: _Response) -> NoReturn:
    code = _read_error_code(response.body, request.key)
    status_text = f"{response.status} ({code})" if code else str(response.status)
    if response.status == TOO_MANY_REQUESTS:
        raise EmbedderBusyError(place=request.place, reason=f"it responds with {status_text}")
    if response.status in KEY_REJECTED_STATUSES or code == "API_KEY_INVALID":
        if request.key:
            raise EmbedderRefusedError(
                place=request.place, key_source=request.key_source, reason=f"it responds with {status_text}"
            )
        raise EmbedderFailedError(
            place=request.place,
            reason=f"it requires a key ({status_text})",
            hint="Set key_env or key_file under [apps.NAME.embedder].",
        )
    if response.status in REDIRECT_STATUSES:
        raise EmbedderFailedError(
            place=request.place,
            reason=f"it redirects to another address ({status_text}), to which the key is not sent",
            hint="Set url under [apps.NAME.embedder] to the current address.",
        )
    if response.status >= SERVER_ERROR:
        raise EmbedderUnreachableError(
            place=request.place,
            reason=f"it responds with {status_text}, also to repeated requests",
            hint=RETRY_HINT,
        )
    raise EmbedderFailedError(place=request.place, reason=f"it responds with {status_text}", hint=URL_HINT)


def _read_error_code(body: bytes, key: Secret | None) -> str:
    """Return the error code in a response, or an empty text."""
    try:
        body_data = msgspec.json.decode(body)
    except JSON_ERRORS:
        return ""
    error = body_data.get("error") if isinstance(body_data, dict) else None
    if not isinstance(error, dict):
        return ""
    details = error.get("details")
    codes = (
        [detail.get("reason") for detail in details if isinstance(detail, dict)]
        if isinstance(details, list)
        else []
    )
    for code in (*codes, error.get("code"), error.get("status"), error.get("type")):
        contains_key = key and isinstance(code, str) and (code in key.reveal() or key.reveal() in code)
        if isinstance(code, str) and _CODE.fullmatch(code) and not contains_key:
            return code
    return ""
