"""Why requests to storage that speaks S3 fail, in few words, by what the server or the library writes.

Nothing of that is repeated, since it may hold keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dbctl.model import Value

_KEY = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile."
_LATER = "Try again later."
_WHERE = "Check AWS_ENDPOINT_URL, and the network."
_WHAT = "Is that an endpoint of S3? Check AWS_ENDPOINT_URL."
#: Of what is no storage at all.
FOREIGN = ("it does not answer as S3 does", _WHAT)
#: What a server calls its refusals, why it refuses, and what to do.
CODES: Mapping[str, tuple[str, str]] = {
    "AccessDenied": (
        "the key may not do that",
        "It needs ListBucket on the bucket, and GetObject, PutObject, DeleteObject and AbortMultipartUpload below the prefix.",
    ),
    "AuthorizationHeaderMalformed": ("it is of another region", "Set AWS_REGION."),
    "ExpiredToken": ("the session token has expired", "Sign in again, or renew AWS_SESSION_TOKEN."),
    "InvalidAccessKeyId": ("it does not know the access key", _KEY),
    "InvalidBucketName": ("it takes no bucket of that name", "Check the address."),
    "InvalidObjectState": ("an object is archived", "Bring it back from the archive first."),
    "InvalidToken": ("the session token is not valid", "Sign in again, or renew AWS_SESSION_TOKEN."),
    "NoSuchBucket": (
        "there is no bucket {bucket!r}",
        "dbctl makes none: check the address, or make it there.",
    ),
    "PermanentRedirect": ("it is of another region", "Set AWS_REGION."),
    "QuotaExceeded": ("it has no room left", "Prune, or let its provider give more."),
    "RequestTimeTooSkewed": ("the clock of this machine is not right", "Set the clock."),
    "SignatureDoesNotMatch": ("the secret key does not belong to the access key", _KEY),
    "XMinioStorageFull": ("it has no room left", "Prune, or let its provider give more."),
}
#: How the library writes that no answer came in time.
SILENT = "TimedOut"
#: The same of what happens on the way there, by what the library writes.
ON_THE_WAY: Mapping[str, tuple[str, str]] = {
    "dns error": ("the name of its host is not known", _WHERE),
    "ConnectionRefused": ("nobody listens at its endpoint", _WHERE),
    "certificate": (
        "the certificate of its host is not trusted",
        "Check AWS_ENDPOINT_URL, and who signs for it.",
    ),
    "InvalidContentType": ("its endpoint does not speak TLS", "Check AWS_ENDPOINT_URL: http:// or https://."),
    "UnknownIssuer": ("the certificate of its host is not trusted", "Check who signs for it."),
    "HandshakeFailure": ("its endpoint does not speak the TLS of today", _WHERE),
    "path segment": (
        "an object stands there whose name no file can have (// or ..)",
        "Take it away, or keep backups below a prefix of their own.",
    ),
    "extract metadata": FOREIGN,
    "InvalidListResponse": FOREIGN,
    "NotPartial": ("it gives no parts of an object", _WHAT),
    "redirect": ("it is of another region", "Set AWS_REGION, or the endpoint of that region."),
    "Parse(": ("what answers at its endpoint does not speak HTTP", _WHERE),
    SILENT: ("it did not answer in time", _WHERE),
}
#: Statuses of HTTP: from here on the server itself is at fault; and that of a range of an object without content.
SERVER_FAULT, EMPTY = 500, 416


class Why(Value, frozen=True, kw_only=True):
    """Why a request failed."""

    reason: str
    instead: str  #: what to do
    status: int = 0  #: of the answer; 0 where there was none
    cut: bool = False  #: whether the answer, or the way to it, was cut off
    silent: bool = False  #: whether no answer came in time


def told(text: str, bucket: str) -> Why:
    """Return why a request failed, by what the library wrote."""
    code = re.search(r"<Code>(\w{1,60})</Code>", text)
    found = re.search(r"status code: (\d{3})", text)
    status = int(found[1]) if found else 0
    if code and code[1] in CODES:
        reason, instead = CODES[code[1]]
        return Why(reason=reason.format(bucket=bucket), instead=instead, status=status)
    if status:
        what = f"{status} ({code[1]})" if code else f"{status}"
        reason, instead = f"it answers {what}", _WHAT
        if status >= SERVER_FAULT:
            reason, instead = f"it answers {what}, also when asked again", _LATER
        elif status in {401, 403}:
            reason, instead = f"it refuses the key ({what})", _KEY
        return Why(reason=reason, instead=instead, status=status)
    for mark, (reason, instead) in ON_THE_WAY.items():
        if mark in text:
            return Why(reason=reason, instead=instead, silent=mark == SILENT)
    return Why(reason="the connection was cut off", instead=_LATER, cut=True)
