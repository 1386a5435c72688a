"""Read a profile from a file, or from an address with HTTPS, and compare its digest."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import NoReturn

from dbctl import signals
from dbctl.errors.connection import report_file_errors
from dbctl.errors.usage import UrlInvalidError
from dbctl.extensions.packages.errors import ProfileDigestError, ProfileSourceError, ProfileUnreachableError
from dbctl.files.atomic import MAX_SETTINGS_BYTES
from dbctl.http_client import REDIRECT_STATUSES, create_opener, explain_error
from dbctl.model import Struct
from dbctl.services.profiles import compute_digest
from dbctl.url import parse_endpoint

#: Seconds for the whole response.
TIMEOUT = 30.0
_NETWORK_HINT = "Check the address, and the network."


class Package(Struct, frozen=True, kw_only=True):
    """A profile as its source has it."""

    source: str  #: the address, or the absolute path
    sha256: str
    text: str


def is_address(source: str) -> bool:
    """Return whether a source is an address, and no path."""
    return "://" in source


def read_package(source: str, sha256: str) -> Package:
    """Read a profile, and compare it with a digest, which an address requires.

    Raises:
        ProfileSourceError: the source is too large, no text, not HTTPS, or an address without a digest.
        ProfileUnreachableError: the server cannot be reached, or answers with an error or a redirect.
        ProfileDigestError: the source has another digest.
        FileMissingError, FileFailedError: the file does not exist, or cannot be read.
    """
    expected = sha256.lower().removeprefix("sha256:")
    if is_address(source):
        if not expected:
            raise ProfileSourceError(
                source=source, reason="an address requires the digest that its author published"
            )
        data = _download(source)
    else:
        path = Path(source).absolute()
        source = str(path)
        with report_file_errors(path, kind="profile"), path.open("rb") as file:
            data = file.read(MAX_SETTINGS_BYTES + 1)
    if len(data) > MAX_SETTINGS_BYTES:
        raise ProfileSourceError(source=source, reason=f"it has more than {MAX_SETTINGS_BYTES:,} bytes")
    actual = compute_digest(data)
    if expected and expected != actual:
        raise ProfileDigestError(source=source, actual=actual, expected=expected)
    try:
        return Package(source=source, sha256=actual, text=data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ProfileSourceError(source=source, reason="it is no text in UTF-8") from error


def _download(address: str) -> bytes:
    """Return at most one byte more than a profile may have."""
    try:
        endpoint = parse_endpoint(address)
    except UrlInvalidError as error:
        reason = "write https://HOST/PATH, without a login, a ? and a #"
        raise ProfileSourceError(source="the address", reason=reason) from error
    if not endpoint.secure:
        raise ProfileSourceError(source=address, reason="it is not https://")
    request = urllib.request.Request(address, headers={"User-Agent": "dbctl"})  # noqa: S310 - HTTPS
    try:
        with signals.time_limit(TIMEOUT), create_opener(endpoint).open(request, timeout=TIMEOUT) as response:
            data: bytes = response.read(MAX_SETTINGS_BYTES + 1)
            if response.length and len(data) <= MAX_SETTINGS_BYTES:
                raise http.client.IncompleteRead(data, response.length)
            return data
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            _refuse_status(address, error)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason, hint = explain_error(error, _NETWORK_HINT, address="the address", tls="the address")
        raise ProfileUnreachableError(source=address, reason=reason, hint=hint) from error


def _refuse_status(address: str, error: urllib.error.HTTPError) -> NoReturn:
    if error.code in REDIRECT_STATUSES:
        reason = f"it redirects to {error.headers.get('Location', 'another address')!a}"
        hint = "Pass that address, if you trust it; redirects are not followed."
        raise ProfileUnreachableError(source=address, reason=reason, hint=hint) from error
    raise ProfileUnreachableError(
        source=address, reason=f"the server answered {error.code}", hint=_NETWORK_HINT
    ) from error
