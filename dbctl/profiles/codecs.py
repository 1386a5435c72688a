"""Encodings of values that a profile may name; each reads what it writes, and every form that deployments hold."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from dbctl.errors import ValueInvalidError
from dbctl.model import Secret, Value

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Numbers below this are seconds: as milliseconds they would all lie before March 1973.
SMALLEST_MILLISECONDS = 100_000_000_000
#: bcrypt reads no further; what follows would not count, so it is refused instead of cut.
BCRYPT_BYTES = 72
BCRYPT = r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}"


#: How a column stores the content of a file: its bytes or text as they are, or base64, behind ``data:…,`` or not.
Encoding = Literal["plain", "base64"]

# Times ------------------------------------------------------------------------------------------------------------


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat("T", "milliseconds") + "Z"


def _sqlite(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "seconds")


def _milliseconds(moment: datetime) -> int:
    return round((moment - EPOCH) / timedelta(milliseconds=1))


def _seconds(moment: datetime) -> int:
    return _milliseconds(moment) // 1000


TimeCodec = Literal["iso-ms", "sqlite-time", "epoch-ms", "epoch-s"]

#: How a time is written where the column has no native type.
TIMES: Mapping[TimeCodec, Callable[[datetime], object]] = {
    "iso-ms": _iso,
    "sqlite-time": _sqlite,
    "epoch-ms": _milliseconds,
    "epoch-s": _seconds,
}


def read_time(stored: object) -> datetime | None:
    """Return a stored time as aware UTC, whichever form it has; None for NULL, empty text and what is no time."""
    if stored is None or stored == "":
        return None
    if isinstance(stored, datetime):
        return stored.astimezone(UTC) if stored.tzinfo else stored.replace(tzinfo=UTC)
    try:
        if isinstance(stored, int | float):
            milliseconds = stored if abs(stored) >= SMALLEST_MILLISECONDS else stored * 1000
            return EPOCH + timedelta(milliseconds=milliseconds)
        read = datetime.fromisoformat(str(stored).strip())
        return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # an offset may lead out of the years there are
        return None


# Booleans -----------------------------------------------------------------------------------------------------------

BooleanCodec = Literal["bool-01", "bool-text"]

#: False and true as they are written where the column has no native type.
BOOLEANS: Mapping[BooleanCodec, tuple[object, object]] = {"bool-01": (0, 1), "bool-text": ("false", "true")}


def read_boolean(stored: object) -> bool:
    """Return a stored boolean: numbers other than 0, and the texts 1, true, yes, on, t, y are true."""
    if isinstance(stored, str):
        return stored.strip().lower() in ("1", "true", "yes", "on", "t", "y")
    return bool(stored)


# Keys ---------------------------------------------------------------------------------------------------------------


def _uuid4() -> str:
    return str(uuid.uuid4())


#: Digits of the base in which a cuid is written.
BASE_36 = "0123456789abcdefghijklmnopqrstuvwxyz"


def _base_36(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, rest = divmod(number, 36)
        digits = BASE_36[rest] + digits
    return digits


def _cuid() -> str:
    """Return 25 characters: c, the milliseconds since 1970, and what no other process has thought of."""
    import secrets

    return f"c{_base_36(_milliseconds(datetime.now(UTC)), 8)}{_base_36(secrets.randbelow(36**16), 16)}"


KeyCodec = Literal["autoincrement", "uuid4", "cuid", "given"]

#: How the key of a new row comes about; ``autoincrement`` leaves it to the database, ``given`` to whoever adds the row.
KEYS: Mapping[KeyCodec, Callable[[], str] | None] = {
    "autoincrement": None,
    "uuid4": _uuid4,
    "cuid": _cuid,
    "given": None,
}


# Passwords ------------------------------------------------------------------------------------------------------------


def _bcrypt(password: Secret, cost: int) -> str:
    import bcrypt

    raw = password.reveal().encode()
    if len(raw) > BCRYPT_BYTES or b"\0" in raw:
        reason = "bcrypt reads only 72 bytes" if len(raw) > BCRYPT_BYTES else "bcrypt ends at a NUL character"
        raise ValueInvalidError(what="the password", value="(not shown)", reason=reason)
    return bcrypt.hashpw(raw, bcrypt.gensalt(cost)).decode()


def _bcrypt_cost(stored: str) -> int:
    found = re.fullmatch(BCRYPT, stored)
    return int(found[1]) if found else 0


def _bcrypt_fits(password: Secret, stored: str) -> bool:
    import bcrypt

    # Apps let bcrypt cut at 72 bytes, so a longer password that was set there fits as its first 72.
    raw = password.reveal().encode("utf-8", "surrogateescape")[:BCRYPT_BYTES]
    try:
        return bcrypt.checkpw(raw, stored.encode("utf-8", "surrogateescape"))
    except ValueError:  # what is stored is no bcrypt hash
        return False


HashCodec = Literal["bcrypt"]


class Hash(Value, frozen=True):
    """How passwords are stored."""

    make: Callable[
        [Secret, int], str
    ]  #: what is stored for a password, at a cost; the cost's unit is the hash's own
    fits: Callable[[Secret, str], bool]  #: whether a password is the one behind what is stored
    recognises: Callable[[str], bool]  #: whether a text can be what is stored
    cost: Callable[
        [str], int
    ]  #: what it costs to look whether a password fits what is stored, in the hash's own unit


HASHES: Mapping[HashCodec, Hash] = {
    "bcrypt": Hash(_bcrypt, _bcrypt_fits, lambda text: bool(re.fullmatch(BCRYPT, text)), _bcrypt_cost),
}

#: Letters and digits that cannot be taken for each other.
READABLE = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def new_password(length: int = 20) -> Secret:
    """Return a random password of readable letters and digits; 20 of them hold 115 bits."""
    import secrets

    return Secret("".join(secrets.choice(READABLE) for _ in range(length)))
