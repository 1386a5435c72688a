"""One question to a service that speaks HTTP: in time, of bounded size, and with a key that goes nowhere else.

Nothing of what a service writes is repeated but words that codes are made of, since it may hold the key.
"""

from __future__ import annotations

import http.client
import random
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import msgspec

from dbctl import signals
from dbctl.errors import (
    EmbedderBusyError,
    EmbedderFailedError,
    EmbedderRefusedError,
    EmbedderUnreachableError,
)
from dbctl.model import Secret
from dbctl.url import Endpoint

#: Bytes of an answer; a vector of the longest takes less.
LARGEST = 4 << 20
BLOCK = 1 << 16
#: Answers after which the same question may be answered.
PASSING = frozenset({429, 500, 502, 503, 504})
TOO_MANY, REFUSED, MOVED, FAULT = 429, frozenset({401, 403}), range(300, 400), 500
#: Seconds before it is asked again, doubled each time.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
WHERE = "Check url under [apps.NAME.embedder], and the network."
LATER = "Try again later."
WHAT = (
    "Is that the address of such a service, with its version? Check url and model under [apps.NAME.embedder]."
)
_CODE = re.compile(r"[A-Za-z][A-Za-z_]{2,59}")


class Question(NamedTuple):
    """What is asked, and how long it may take."""

    endpoint: Endpoint
    path: str  #: below that of the endpoint
    headers: Mapping[str, str]
    body: object  #: as JSON
    timeout: float  #: seconds, for everything
    key: Secret | None = None  #: never repeated
    key_from: str = ""

    @property
    def place(self) -> str:
        """What is asked, for messages."""
        return str(self.endpoint)


class _Answer(NamedTuple):
    status: int
    body: bytes
    wait: float | None  #: seconds, where it says so


class _Stays(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: the key is for this service alone."""

    def redirect_request(self, *_words: object) -> None:
        return None


def ask(question: Question) -> Any:
    """Return what a service answers, as JSON; while it is overloaded it is asked again.

    Raises:
        EmbedderUnreachableError, EmbedderBusyError, EmbedderRefusedError, EmbedderFailedError: it gives no answer.
    """
    passing = list[_Answer]()
    try:
        with signals.within(question.timeout):
            answer = _answered(question, passing)
    except TimeoutError as error:
        if passing:
            _refuse(question, passing[-1])
        raise EmbedderUnreachableError(
            place=question.place,
            reason=f"it did not answer within {question.timeout:g} s",
            instead="Try again, or give it longer: timeout under [apps.NAME.embedder].",
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason, instead = _why(error)
        raise EmbedderUnreachableError(place=question.place, reason=reason, instead=instead) from error
    try:
        return msgspec.json.decode(answer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise EmbedderFailedError(
            place=question.place, reason="what it answers is no JSON", instead=WHAT
        ) from error


def _answered(question: Question, passing: list[_Answer]) -> bytes:
    """Return the body of an answer that tells what was asked for; those after which it is asked again go to ``passing``."""
    body = msgspec.json.encode(question.body)
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "dbctl"}
    request = urllib.request.Request(  # noqa: S310 - http and https are all that an endpoint is
        f"{question.endpoint}{question.path}",
        data=body,
        headers={**headers, **question.headers},
        method="POST",
    )
    opener, until, pause = _opener(question.endpoint), time.monotonic() + question.timeout, FIRST_PAUSE
    while True:
        answer = _sent(opener, request, question)
        if answer.status == http.client.OK:
            return answer.body
        wait = answer.wait if answer.wait is not None else pause * random.uniform(0.5, 1)  # noqa: S311 - no secret
        if answer.status not in PASSING or time.monotonic() + wait >= until:
            _refuse(question, answer)
        passing.append(answer)
        time.sleep(wait)
        pause = min(2 * pause, LONGEST_PAUSE)


def _opener(endpoint: Endpoint) -> urllib.request.OpenerDirector:
    """Return what asks: through the proxy that the usual variables name, which gets nothing that is for this machine."""
    proxies = {} if endpoint.is_here else urllib.request.getproxies()
    context = ssl.create_default_context()
    return urllib.request.build_opener(
        urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context), _Stays()
    )


def _sent(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, question: Question
) -> _Answer:
    try:
        response = opener.open(request, timeout=question.timeout)
    except urllib.error.HTTPError as error:  # an answer, too
        response = error
    with response:
        body = bytearray()
        while block := response.read(BLOCK):
            body += block
            if len(body) > LARGEST:
                raise EmbedderFailedError(
                    place=question.place,
                    reason=f"its answer is larger than {LARGEST >> 20} MiB",
                    instead=WHAT,
                )
        expected = response.headers.get("Content-Length", "")
        if expected.isascii() and expected.isdigit() and int(expected) > len(body):
            raise http.client.IncompleteRead(bytes(body))
        told = response.headers.get("Retry-After", "")
        wait = float(told) if re.fullmatch(r"[0-9]{1,6}", told) else None
        return _Answer(response.status or 0, bytes(body), wait)


def _refuse(question: Question, answer: _Answer) -> NoReturn:
    code = _code(answer.body, question.key)
    what = f"{answer.status} ({code})" if code else str(answer.status)
    if answer.status == TOO_MANY:
        raise EmbedderBusyError(place=question.place, reason=f"it answers {what}")
    if answer.status in REFUSED or code == "API_KEY_INVALID":
        if question.key:
            raise EmbedderRefusedError(
                place=question.place, key=question.key_from, reason=f"it answers {what}"
            )
        raise EmbedderFailedError(
            place=question.place,
            reason=f"it wants a key ({what})",
            instead="Name it by key_env or key_file under [apps.NAME.embedder].",
        )
    if answer.status in MOVED:
        raise EmbedderFailedError(
            place=question.place,
            reason=f"it sends elsewhere ({what}), and the key goes nowhere else",
            instead="Write the address where it is now as url under [apps.NAME.embedder].",
        )
    if answer.status >= FAULT:
        raise EmbedderUnreachableError(
            place=question.place,
            reason=f"it answers {what}, also when asked again",
            instead=LATER,
        )
    raise EmbedderFailedError(place=question.place, reason=f"it answers {what}", instead=WHAT)


def _code(body: bytes, key: Secret | None) -> str:
    """Return the word by which a service calls its refusal, if that is what it looks like."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return ""
    error = told.get("error") if isinstance(told, dict) else None
    if not isinstance(error, dict):
        return ""
    details = error.get("details")
    words = (
        [one.get("reason") for one in details if isinstance(one, dict)] if isinstance(details, list) else []
    )
    for word in (*words, error.get("code"), error.get("status"), error.get("type")):
        secret = key and isinstance(word, str) and (word in key.reveal() or key.reveal() in word)
        if isinstance(word, str) and _CODE.fullmatch(word) and not secret:
            return word
    return ""


#: Why there was no answer, and what to do, by what was raised; the first that fits counts.
_WHY: Sequence[tuple[type[BaseException], str, str]] = (
    (
        ssl.SSLCertVerificationError,
        "its certificate is not trusted",
        "Check url; SSL_CERT_FILE names the authorities that are trusted in place of those of this machine.",
    ),
    (ssl.SSLError, "it does not speak TLS", "Check url: http:// or https://."),
    (socket.gaierror, "the name of its host is not known", WHERE),
    (ConnectionRefusedError, "nobody listens there", WHERE),
    (http.client.RemoteDisconnected, "the connection was cut off", LATER),
    (http.client.IncompleteRead, "the connection was cut off", LATER),
    (http.client.HTTPException, "what answers does not speak HTTP", WHERE),
    (ConnectionError, "the connection was cut off", LATER),
)


def _why(error: Exception) -> tuple[str, str]:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    for kind, reason, instead in _WHY:
        if isinstance(cause, kind):
            return reason, instead
    if str(cause).startswith("Tunnel connection failed"):
        return "the proxy does not let it through", "Check HTTPS_PROXY and NO_PROXY."
    return (cause.strerror if isinstance(cause, OSError) else "") or "the network failed", WHERE
