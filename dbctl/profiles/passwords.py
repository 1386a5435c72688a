"""Hashes of passwords: identify the format of a stored text, verify a password, create a hash.

A profile names the format that the app writes by the prefix of its hashes. Apps that store parts of a hash in other columns
have a format whose text is these parts joined by ``JOINT``.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from dbctl.errors.usage import ValueInvalidError
from dbctl.model import Secret
from dbctl.profiles.codecs import HashFormat
from dbctl.profiles.password_formats import PASSWORD_FORMATS
from dbctl.profiles.password_hash import Cost, Parts, random_text

#: Joins the parts of a hash that an app stores in several columns.
JOINT = "$"
#: No format has longer hashes; longer texts are not compared with the patterns.
MAX_LENGTH = 1024
#: Longer passwords are refused: the time of some formats is proportional to the length.
MAX_PASSWORD_BYTES = 4096
#: Fields of a modular format, a scheme in braces, or the digits of a digest.
_ANY_HASH = r"(?a)\$[\w.,=-]+\$.{8,}|\{[\w.-]+\}.{8,}|[\w-]+[$:][^\s$:]+[$:]\S{16,}|(?:[0-9a-fA-F]{8}){4,}|[A-Za-z0-9+/_-]{40,}={0,2}"
#: Letters and digits that cannot be confused.
READABLE = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def identify_format(stored: str) -> HashFormat | None:
    """Return the format of a stored text; None if it is no hash of a known format."""
    match = match_format(stored)
    return match[0] if match else None


def has_hash_form(stored: str) -> bool:
    """Return whether a text is a hash, or may be one in a format that dbctl does not know; not a damaged one in a known format."""
    if identify_format(stored) is not None:
        return True
    begins_known = any(
        entry.prefix and re.match(entry.prefix, stored, re.ASCII) for entry in PASSWORD_FORMATS.values()
    )
    return not begins_known and len(stored) <= MAX_LENGTH and bool(re.fullmatch(_ANY_HASH, stored))


def read_prefix(stored: str) -> str:
    """Return the prefix of a hash: its first characters, up to the salt, or the name of a format whose hashes have none.

    It is empty if the hash has no known format.
    """
    match = match_format(stored)
    if match is None:
        return ""
    entry = PASSWORD_FORMATS[match[0]]
    if not entry.prefix:
        return match[0]
    parts = re.fullmatch(f"(?P<_prefix>{entry.prefix}){entry.rest}", stored, re.ASCII)
    return parts["_prefix"] if parts else ""


def find_hash_problem(stored: str, accepted: Collection[HashFormat]) -> str:
    """Return why a text is not a password hash in one of the accepted formats; empty: it is one."""
    match = match_format(stored)
    if match is None or match[0] not in accepted:
        return f"it is not a {' or '.join(accepted)} hash"
    cost = PASSWORD_FORMATS[match[0]].cost(match[1])
    return "" if cost.is_accepted else "its cost is too high"


def estimate_cost(stored: str) -> Cost:
    """Return the cost of verifying a password; none for a text in no known format."""
    match = match_format(stored)
    return PASSWORD_FORMATS[match[0]].cost(match[1]) if match else Cost(0)


def verify_password(password: Secret, stored: str, accepted: Collection[HashFormat]) -> bool:
    """Return whether a password has the stored hash, which must have one of the accepted formats.

    Raises:
        HashExpensiveError: the hash demands too much time or memory; it was not computed.
    """
    from hmac import compare_digest

    match = match_format(stored)
    if match is None or match[0] not in accepted:
        return False
    hash_format, parts = PASSWORD_FORMATS[match[0]], match[1]
    if not hash_format.cost(parts).is_accepted:
        from dbctl.errors.users import HashExpensiveError

        raise HashExpensiveError(format=match[0])
    # Apps let bcrypt truncate passwords, so only the first bytes are compared.
    raw = password.reveal().encode("utf-8", "surrogateescape")[: hash_format.max_bytes]
    if len(raw) > MAX_PASSWORD_BYTES:
        return False
    try:
        return compare_digest(hash_format.compute(raw, parts), parts["hash"])
    except ValueError:  # the salt or digest is not valid in its encoding
        return False


def hash_password(password: Secret, prefix: str) -> str:
    """Return a hash with a new salt that begins with ``prefix``, for which ``find_prefix_problem`` returns nothing.

    ``prefix`` is the name of the format if its hashes have no prefix.

    Raises:
        ValueInvalidError: the format does not accept the password; the message does not contain it.
    """
    match = match_format(prefix, is_prefix=True)
    if match is None:
        raise ValueError(prefix)
    name, parts = match
    hash_format, raw = PASSWORD_FORMATS[name], password.reveal().encode()
    limit = hash_format.max_bytes
    reason = f"{name} reads only {limit} bytes" if limit and len(raw) > limit else ""
    if limit and b"\0" in raw:
        reason = f"{name} ends at a NUL character"
    if len(raw) > MAX_PASSWORD_BYTES:
        reason = f"it has more than {MAX_PASSWORD_BYTES} bytes"
    if reason:
        raise ValueInvalidError(name="the password", value="(not shown)", reason=reason)
    salt = hash_format.new_salt()
    digest = hash_format.compute(raw, {**parts, "salt": salt})
    return (prefix if hash_format.prefix else "") + hash_format.template.format(salt=salt, hash=digest)


def compute_hmac(password: str, key: Secret) -> Secret:
    """Return the text that Flask-Security hashes instead of a password: base64 of HMAC-SHA512."""
    import hmac
    from base64 import b64encode

    digest = hmac.digest(key.reveal().encode(), password.encode("utf-8", "surrogateescape"), "sha512")
    return Secret(b64encode(digest).decode())


def trim_password(text: str, *, slashes: bool) -> str:
    """Return a password without whitespace at its ends, with ``slashes`` as PHP with a backslash before its quotes and backslashes."""
    return re.sub(r"['\"\\]", r"\\\g<0>", text).strip(" \t\n\r\v") if slashes else text.strip()


def find_prefix_problem(prefix: str) -> str:
    """Return why a text is not the prefix of hashes that dbctl can write; empty: it is one."""
    match = match_format(prefix, is_prefix=True)
    if match is None:
        return "no known hash begins with it; it must end where the salt begins"
    return "" if PASSWORD_FORMATS[match[0]].cost(match[1]).is_accepted else "its cost is too high"


def has_byte_limit(prefix: str) -> bool:
    """Return whether the format of hashes with a prefix ignores bytes after the first ones of a password."""
    match = match_format(prefix, is_prefix=True)
    return match is not None and PASSWORD_FORMATS[match[0]].max_bytes is not None


def new_password(length: int = 20) -> Secret:
    """Return a random password of readable letters and digits; 20 of them have 115 bits of entropy."""
    return Secret(random_text(length, READABLE))


# Matching -------------------------------------------------------------------------------------------------------------


def match_format(text: str, *, is_prefix: bool = False) -> tuple[HashFormat, Parts] | None:
    """Return the format of which a text is a hash, or the prefix of hashes, and the parts of the text; None: it has no known format.

    The name of a format whose hashes have no prefix is its prefix.
    """
    for name, entry in PASSWORD_FORMATS.items() if len(text) <= MAX_LENGTH else ():
        pattern = entry.prefix + entry.rest if not is_prefix else entry.prefix or name
        match = re.fullmatch(pattern, text, re.ASCII)
        if match and entry.is_valid(parts := match.groupdict(default="")):
            return name, parts
    return None
