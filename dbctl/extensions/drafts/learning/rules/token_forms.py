"""In which form an app stores an API token: itself, a digest or a hash of it, or its beginning."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator

from dbctl.extensions.drafts.learning.rules.password_hashes import is_password_hash
from dbctl.model import Secret
from dbctl.profiles.passwords import identify_format
from dbctl.services.app.secrets import KEY_FORMS

_DIGESTS = ("sha256", "sha512", "sha1", "sha384", "sha224", "md5")
#: What separates the parts of a token, such as its number and its secret.
_SEPARATOR = re.compile(r"[^0-9A-Za-z]+")
#: Characters of the shortest part that is compared, so that it is equal by no chance.
_SHORTEST_PART = 4
_HEX = re.compile(r"[0-9a-f]{16,}", re.IGNORECASE)
#: What a stored text may be if the token is unknown.
UNKNOWN = "the token itself, or made of it"


def find_form(token: Secret, stored: str) -> str:
    """Return how a text was made of a token, as part of a sentence; empty: it was not."""
    text = token.reveal()
    if stored == text:
        return "the token itself, in clear text"
    if len(text) // 2 <= len(stored) and text.startswith(stored):
        return "the beginning of the token, in clear text"
    for part in _list_parts(text):
        whole = "the token" if part == text else "a part of the token"
        if stored == part:
            return f"{whole}, in clear text"
        if name := next((name for name in _list_digests(part) if stored in _list_digests(part)[name]), ""):
            return f"the {name} digest of {whole}"
        if is_password_hash(Secret(part), stored):
            return f"a hash of {whole} in the format {identify_format(stored)}"
    return ""


def has_beginning(token: Secret, stored: str) -> bool:
    """Return whether a text is the beginning of a token, or of its last part: it is shown to users, and is no secret."""
    is_short = _SHORTEST_PART <= len(stored) < len(token.reveal()) // 2
    return is_short and any(part.startswith(stored) for part in _list_parts(token.reveal()))


def describe_form(stored: str) -> str:
    """Return what the form of a text shows without the token, as part of a sentence."""
    if form := identify_format(stored):
        return f"a hash in the format {form}"
    if name := next((name for name, pattern in KEY_FORMS.items() if re.fullmatch(pattern, stored)), ""):
        return f"a {name}, in clear text"
    digits = "hex digits" if _HEX.fullmatch(stored) else "characters"
    return f"{len(stored)} {digits}: {UNKNOWN}"


def _list_parts(text: str) -> Iterator[str]:
    """Yield a token, and what follows each separator in it."""
    yield text
    yield from (
        part for match in _SEPARATOR.finditer(text) if len(part := text[match.end() :]) >= _SHORTEST_PART
    )


def _list_digests(text: str) -> dict[str, tuple[str, ...]]:
    """Return the digests of a text by algorithm, in hex and in Base64."""
    digests = {name: hashlib.new(name, text.encode(), usedforsecurity=False).digest() for name in _DIGESTS}
    return {
        name.upper().replace("SHA", "SHA-"): (
            raw.hex(),
            raw.hex().upper(),
            *(form for encode in (b64encode, urlsafe_b64encode) for form in _strip(encode(raw).decode())),
        )
        for name, raw in digests.items()
    }


def _strip(encoded: str) -> tuple[str, str]:
    return encoded, encoded.rstrip("=")
