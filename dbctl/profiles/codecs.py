"""Encodings of values that a profile may name; each reads its own format and all others that deployments have."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from dbctl.model import TimeForm

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Smaller numbers are seconds: as milliseconds they would be times before March 1973.
SMALLEST_MILLISECONDS = 100_000_000_000

# Texts, not compiled: most commands match a few of the patterns, and compiling all takes longer than a query.
#: A number of seconds or milliseconds as text.
_NUMBER = r"[0-9]{9,13}"
#: A longer one, of microseconds or nanoseconds, or one of seconds with a fraction.
_LONG_NUMBER = r"[0-9]{15,}|[0-9]{7,}[.][0-9]+"
#: A number of any other size, as SQLite reads it.
_FLOAT = r"(?i)[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)(e[+-]?[0-9]+)?|nan|[+-]?inf(inity)?"
#: The fraction of a second in the text of a time.
_FRACTION = r":[0-9]{2}[.,]([0-9]+)"
#: A time without separators, as MediaWiki stores it: 20260102150405.
_COMPACT = r"[0-9]{14}"

#: How a column stores the content of a file: as bytes or text, or in base64, with or without the prefix ``data:…,``.
Encoding = Literal["plain", "base64"]

# Times ------------------------------------------------------------------------------------------------------------


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).replace(tzinfo=None).isoformat("T", "milliseconds") + "Z"


def _sqlite(time: datetime) -> str:
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "seconds")


def _milliseconds(time: datetime) -> int:
    return round((time - EPOCH) / timedelta(milliseconds=1))


def _seconds(time: datetime) -> int:
    return _milliseconds(time) // 1000


#: Encoders of times, for columns without a native type.
TIMES: Mapping[TimeForm, Callable[[datetime], object]] = {
    "iso-ms": _iso,
    "sqlite-time": _sqlite,
    "epoch-ms": _milliseconds,
    "epoch-s": _seconds,
}


def encode_typed_time(
    form: TimeForm, time: datetime, text: str, stored: Iterable[Sequence[object]] = ()
) -> object:
    """Return the stored form of a time that was typed as ``text``, also ``now``; empty: the text is unknown.

    A text keeps the fraction of a second, also if the app's own times have none or fewer digits; one with fewer is completed.
    If all times of ``stored``, rows with one value, have 14 digits, so has the time, since no profile has that form.
    """
    if {find_time_form(value) for (value,) in stored} - {None} == {"compact"}:
        return f"{time.astimezone(UTC):%Y%m%d%H%M%S}"
    separator = {"iso-ms": "T", "sqlite-time": " "}.get(form)
    known = f"{time.microsecond:06}".removesuffix("000") if time.microsecond else ""
    fraction = match[1] if (match := re.search(_FRACTION, text)) else known
    if separator is None or not fraction or text == "now":
        return TIMES[form](time)
    seconds = time.astimezone(UTC).replace(tzinfo=None).isoformat(separator, "seconds")
    return f"{seconds}.{fraction:0<3}Z" if form == "iso-ms" else f"{seconds}.{fraction}"


def read_time(stored: object) -> datetime | None:
    """Return a stored time of any format as aware UTC; None for NULL, empty text and values that are not times."""
    if stored is None or stored == "":
        return None
    if isinstance(stored, datetime):
        return stored.astimezone(UTC) if stored.tzinfo else stored.replace(tzinfo=UTC)
    text = str(stored).strip()
    number = int(text) if isinstance(stored, str) and re.fullmatch(_NUMBER, text) else stored
    try:
        if isinstance(number, int | float):
            milliseconds = number if abs(number) >= SMALLEST_MILLISECONDS else number * 1000
            return EPOCH + timedelta(milliseconds=milliseconds)
        # of digits with other lengths, ``fromisoformat`` would accept some, which the SQL of the engines does not
        if text.isdecimal():
            text = f"{text[:8]}T{text[8:]}" if re.fullmatch(_COMPACT, text) else ""
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # an offset may lead out of the range of datetime
        return None


def read_known_time(stored: object) -> datetime | None:
    """Return a stored time; None also for times until 1970: apps store 0 or the first day of a calendar in place of NULL."""
    time = read_time(stored)
    return time if time and time > EPOCH else None


_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME_FORMS = {
    rf"{_DAY}T.*Z": "iso-ms",
    rf"{_DAY}T.*": "iso-without-z",
    rf"{_DAY} .*": "sqlite-time",
    _COMPACT: "compact",
}


def find_time_form(stored: object) -> str | None:
    """Return the form of a time, or of a text that begins with a day: a ``TimeForm``, ``iso-without-z`` or ``compact``.

    None: another value, or 0.
    """
    if isinstance(stored, int | float):
        return None if not stored else "epoch-s" if abs(stored) < SMALLEST_MILLISECONDS else "epoch-ms"
    text = read_text(stored)
    if re.fullmatch(_NUMBER, text):
        return "epoch-s" if len(text) < len(str(SMALLEST_MILLISECONDS)) else "epoch-ms"
    return next(
        (form for pattern, form in _TIME_FORMS.items() if re.fullmatch(pattern, text, re.DOTALL)), None
    )


def recognize_time(stored: object) -> str | None:
    """Return ``find_time_form`` of a value that is a time in a column of which nothing else is known; None: it is none, or may be none.

    Digits as text may be a key, and a number that is no time from 2001 to 2286 a count.
    """
    if isinstance(stored, int | float):
        size = 0 if isinstance(stored, bool) else stored
        return find_time_form(stored) if 10**9 <= size < 10**10 or 10**12 <= size < 10**13 else None
    text = read_text(stored)
    is_time = not text.isdecimal() and (read_time(text) is not None or text.startswith("0000-00-00"))
    return find_time_form(text) if is_time else None


def explain_incomparable(text: str, stored: Collection[object], *, is_time: bool, orders: bool = True) -> str:
    """Return what a column contains with which a typed text, or with ``is_time`` a time, cannot be ordered; empty: it can.

    Texts are ordered by their characters, so that times of other forms, and numbers, would be before or after all of a day.
    Without ``orders``, a text differs from values of other forms if the column also has its form: no typing error is likely.
    """
    values = [_convert_known(value) for value in stored]
    values = [value for value in values if value is not None and value not in ("", 0, -1)]
    if is_time:
        is_known = not values or any(map(_is_plausible, values))
        return "" if is_known else f"contains no known times, but {_show(values[-1])}"
    own = find_time_form(text)
    if re.match(_DAY, text):
        if not orders and any(_has_form(value, own) for value in values):
            return ""
        others = (
            {"epoch-s", "epoch-ms", "compact"}
            if own is None
            else {*TIMES, "iso-without-z", "compact"} - {own}
        )
        other = next((value for value in reversed(values) if _find_form(value) in others), None)
        content = "numbers" if isinstance(other, int | float) else "times of another form"
        return "" if other is None else f"contains {content}, such as {_show(other)}"
    is_number = any(isinstance(value, int | float) for value in values)
    is_number &= not any(isinstance(value, str) for value in values)
    return "contains numbers" if is_number and not re.fullmatch(_FLOAT, text) else ""


def _show(value: object) -> str:
    """Return a value for a message: of a text, at most 40 characters."""
    return ascii(value[:40] if isinstance(value, str) else value)


def _convert_known(value: object) -> object:
    """Return bytes as text, and an exact number as a float: times need few of its digits."""
    if isinstance(value, Decimal):
        return float(value)
    return read_text(value) if isinstance(value, bytes) else value


def _has_form(value: object, form: str | None) -> bool:
    """Whether a value is a time of a form, or without a form a text that begins with a day."""
    if form is None:
        return isinstance(value, str) and bool(re.match(_DAY, value)) and find_time_form(value) is None
    return find_time_form(value) == form


def _find_form(value: object) -> str | None:
    """As ``find_time_form``, also for longer numbers and fractions as text."""
    return "epoch-s" if re.fullmatch(_LONG_NUMBER, read_text(value)) else find_time_form(value)


def _is_plausible(value: object) -> bool:
    """Whether a value is a time; a Julian day would be one of January 1970."""
    return not (isinstance(value, int | float) and abs(value) < 10**7) and read_time(value) is not None


# Booleans -----------------------------------------------------------------------------------------------------------

BooleanCodec = Literal["bool-01", "bool-text"]

#: The stored values of false and true, for columns without a native type.
BOOLEANS: Mapping[BooleanCodec, tuple[object, object]] = {"bool-01": (0, 1), "bool-text": ("false", "true")}


def read_boolean(stored: object) -> bool:
    """Return a stored boolean: numbers other than 0, and the texts 1, true, yes, on, t, y are true."""
    if isinstance(stored, str):
        return stored.strip().lower() in ("1", "true", "yes", "on", "t", "y")
    return bool(stored)


# Texts --------------------------------------------------------------------------------------------------------------


def read_text(stored: object) -> str:
    """Return a stored value as text; some apps store text in columns for bytes."""
    return stored.decode("utf-8", "surrogateescape") if isinstance(stored, bytes) else str(stored)


def text_or_none(stored: object) -> str | None:
    """Return a stored value as text; None for NULL."""
    return None if stored is None else read_text(stored)


def decode_text(stored: object) -> object:
    """Return bytes as text, without trailing zero bytes, if they are valid UTF-8; return other values unchanged."""
    if not isinstance(stored, bytes):
        return stored
    try:
        return stored.decode().rstrip("\0")
    except UnicodeDecodeError:
        return stored


# Keys ---------------------------------------------------------------------------------------------------------------


#: Digits of cuids.
BASE_36_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def _base_36(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 36)
        digits = BASE_36_DIGITS[digit] + digits
    return digits


def _cuid() -> str:
    """Return 25 characters: c, the milliseconds since 1970, and a random part."""
    import secrets

    return f"c{_base_36(_milliseconds(datetime.now(UTC)), 8)}{_base_36(secrets.randbelow(36**16), 16)}"


def _cuid2() -> str:
    """Return 24 random characters, of which the first is a letter."""
    import secrets

    first, letters = secrets.choice(BASE_36_DIGITS[10:]), range(23)
    return first + "".join(secrets.choice(BASE_36_DIGITS) for _ in letters)


def _object_id() -> str:
    """Return 24 hexadecimal digits: the seconds since 1970, and a random part."""
    import secrets

    return f"{_seconds(datetime.now(UTC)):08x}{secrets.token_hex(8)}"


KeyCodec = Literal["autoincrement", "uuid4", "cuid", "cuid2", "object-id", "given"]

#: Generators of the keys of new rows; with ``autoincrement`` the database creates them, with ``given`` the caller.
KEYS: Mapping[KeyCodec, Callable[[], str] | None] = {
    "autoincrement": None,
    "uuid4": lambda: str(uuid.uuid4()),
    "cuid": _cuid,
    "cuid2": _cuid2,
    "object-id": _object_id,
    "given": None,
}


# Passwords ------------------------------------------------------------------------------------------------------------

#: Formats of password hashes; ``dbctl.profiles.passwords`` computes them.
HashFormat = Literal[
    "bcrypt",
    "wordpress-bcrypt",
    "django-bcrypt",
    "nextcloud-bcrypt",
    "argon2",
    "django-argon2",
    "nextcloud-argon2",
    "django-pbkdf2",
    "werkzeug-pbkdf2",
    "mediawiki-pbkdf2",
    "gitea-pbkdf2",
    "passlib-pbkdf2",
    "phc-pbkdf2",
    "werkzeug-scrypt",
    "django-scrypt",
    "phc-scrypt",
    "phpass",
    "md5-crypt",
    "sha-crypt",
    "redmine-sha1",
]

# Sessions -------------------------------------------------------------------------------------------------------------

#: Encodings of the data of sessions; ``dbctl.profiles.payloads`` reads them. ``json``: a JSON object; ``django``: signed JSON,
#: compressed or not, which is read without its signing key.
PayloadCodec = Literal["json", "django"]
