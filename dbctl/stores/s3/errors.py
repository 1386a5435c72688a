"""Short descriptions of failed requests to storage with the S3 protocol, from the messages of the server or the library.

The messages are not repeated, because they may contain keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dbctl.model import Struct

_CHECK_KEY = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile."
_TRY_LATER = "Try again later."
_CHECK_ENDPOINT = "Check AWS_ENDPOINT_URL, and the network."
_IS_IT_S3 = "Check that AWS_ENDPOINT_URL is an endpoint of S3."
#: The server is not storage with the S3 protocol.
FOREIGN = ("the server does not respond like S3", _IS_IT_S3)
#: Error codes of servers, with the description and the hint.
CODES: Mapping[str, tuple[str, str]] = {
    "AccessDenied": (
        "the key lacks a permission",
        "It needs ListBucket on the bucket, and GetObject, PutObject, DeleteObject and AbortMultipartUpload below the prefix.",
    ),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", "Set AWS_REGION."),
    "ExpiredToken": ("the session token has expired", "Sign in again, or renew AWS_SESSION_TOKEN."),
    "InvalidAccessKeyId": ("the server does not recognise the access key", _CHECK_KEY),
    "InvalidBucketName": ("the server does not accept this bucket name", "Check the address."),
    "InvalidObjectState": ("an object is archived", "Restore it from the archive first."),
    "InvalidToken": ("the session token is not valid", "Sign in again, or renew AWS_SESSION_TOKEN."),
    "NoSuchBucket": (
        "bucket not found: {bucket!r}",
        "Check the address, or create the bucket; dbctl does not create it.",
    ),
    "PermanentRedirect": ("the bucket is in another region", "Set AWS_REGION."),
    "QuotaExceeded": ("the storage is full", "Prune backups, or increase the quota."),
    "RequestTimeTooSkewed": ("the clock of this machine is wrong", "Set the clock."),
    "SignatureDoesNotMatch": ("the secret key does not belong to the access key", _CHECK_KEY),
    "XMinioStorageFull": ("the storage is full", "Prune backups, or add capacity."),
}
#: The text of the library for a timeout.
TIMED_OUT = "TimedOut"
#: Connection errors: texts of the library, with the description and the hint.
CONNECTION_ERRORS: Mapping[str, tuple[str, str]] = {
    "dns error": ("its host name cannot be resolved", _CHECK_ENDPOINT),
    "ConnectionRefused": ("its endpoint refuses connections", _CHECK_ENDPOINT),
    "certificate": (
        "the certificate of its host is not trusted",
        "Check AWS_ENDPOINT_URL, and the issuer of the certificate.",
    ),
    "InvalidContentType": (
        "its endpoint does not support TLS",
        "Check AWS_ENDPOINT_URL: http:// or https://.",
    ),
    "UnknownIssuer": ("the certificate of its host is not trusted", "Check the issuer of the certificate."),
    "HandshakeFailure": ("its endpoint does not support a current version of TLS", _CHECK_ENDPOINT),
    "path segment": (
        "the key of an object is not a valid file name (// or ..)",
        "Delete the object, or store backups below another prefix.",
    ),
    "extract metadata": FOREIGN,
    "InvalidListResponse": FOREIGN,
    "NotPartial": ("the server does not support range requests", _IS_IT_S3),
    "redirect": ("the bucket is in another region", "Set AWS_REGION, or the endpoint of that region."),
    "Parse(": ("the server at its endpoint does not support HTTP", _CHECK_ENDPOINT),
    TIMED_OUT: ("it did not respond in time", _CHECK_ENDPOINT),
}
#: HTTP statuses: the first of server errors; and the one for a range of an empty object.
SERVER_FAULT, EMPTY = 500, 416


class RequestFailure(Struct, frozen=True, kw_only=True):
    """The reason of a failed request."""

    reason: str
    hint: str  #: a hint for the user
    status: int = 0  #: HTTP status; 0 without a response
    cut: bool = False  #: whether the connection was interrupted
    silent: bool = False  #: whether no response came in time


def explain_failure(text: str, bucket: str) -> RequestFailure:
    """Return the reason of a failed request from the library's message."""
    code_match = re.search(r"<Code>(\w{1,60})</Code>", text)
    status_match = re.search(r"status code: (\d{3})", text)
    status = int(status_match[1]) if status_match else 0
    if code_match and code_match[1] in CODES:
        reason, hint = CODES[code_match[1]]
        return RequestFailure(reason=reason.format(bucket=bucket), hint=hint, status=status)
    if status:
        description = f"{status} ({code_match[1]})" if code_match else f"{status}"
        reason, hint = f"it responds with {description}", _IS_IT_S3
        if status >= SERVER_FAULT:
            reason, hint = f"it responds with {description}, also to repeated requests", _TRY_LATER
        elif status in {401, 403}:
            reason, hint = f"it rejects the key ({description})", _CHECK_KEY
        return RequestFailure(reason=reason, hint=hint, status=status)
    for text_mark, (reason, hint) in CONNECTION_ERRORS.items():
        if text_mark in text:
            return RequestFailure(reason=reason, hint=hint, silent=text_mark == TIMED_OUT)
    return RequestFailure(reason="the connection was interrupted", hint=_TRY_LATER, cut=True)
