"""Pseudonyms: HMAC-SHA256 of a value under a key, in the form of an e-mail address, a login, a name or a token.

The digest depends on the kind and the value, never on the table or column, so equal values stay equal across tables, databases and
engines. Its letters and digits are in groups of three: an original with four letters or six digits in a row cannot occur in one by
chance, which the proof of a copy relies on.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation, localcontext
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias, get_args

from msgspec import structs

from dbctl.engines.contract.database import Column
from dbctl.extensions.copies.errors import CopyKeyInvalidError
from dbctl.extensions.copies.rules import ColumnRule, ValueRule
from dbctl.extensions.copies.section import Kind
from dbctl.files import atomic
from dbctl.model import Struct

#: Digits of the digest in a group, and what joins the groups.
GROUP, JOINT = 3, "_"
GROUPS = [slice(at, at + GROUP) for at in range(0, 64, GROUP)]
#: Reserved by RFC 2606: no mail to it can be delivered, and no host has the name.
DOMAIN = "copy.invalid"
#: Bytes of a block of SHA-256, to which HMAC extends a key.
BLOCK = 64
#: Replaces the letters of a digest where only digits are possible.
DIGITS = str.maketrans("abcdef", "012345")
#: What the password of an account becomes if it has no known hash: no format of hashes begins with it.
UNUSABLE = "!"
#: The length of columns whose type implies it, in bytes.
_IMPLIED_LENGTHS = {"TINYTEXT": 255, "TINYBLOB": 255}
#: Smallest numbers that are a time in nanoseconds, microseconds, milliseconds and seconds, and a day in each of these units; smaller ones
#: are days.
_EPOCHS = ((10**16, 86_400_000_000_000), (10**13, 86_400_000_000), (10**10, 86_400_000), (10**7, 86_400))
#: Numbers that are a year, or no time.
_WITHOUT_DAY = frozenset({-1, 0, *range(1800, 2200)})
#: A date with or without a time; other texts are no time, also if they begin with one.
_ISO_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)([T ]\d\d(:?\d\d){0,2}([.,]\d{1,9})?)? ?(Z|UTC|GMT|[+-]\d\d(:?\d\d){0,2})?", re.ASCII
)
_NO_DATE = "0000-00-00"
_JSON_SCALAR = re.compile(r"\s*(-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?|true|false|null)\s*", re.ASCII)
#: Characters of the shortest whole number that is changed where it is the whole document.
LONG_NUMBER = 9
_DECIMAL = re.compile(r"-?\d+", re.ASCII)

#: Returns the new value of a column from the old one and those of the columns that select the rule.
Rewrite: TypeAlias = Callable[..., Any]
#: Returns the new value for a kind.
Change: TypeAlias = Callable[[Kind, object], object]


class Shape(Struct, frozen=True):
    """The form of the pseudonyms of one kind."""

    prefix: str
    groups: int
    suffix: str = ""
    is_numeric: bool = False
    joint: str = JOINT
    length: int = 0  #: of the part from the digest, in a column

    @property
    def body_length(self) -> int:
        return self.groups * (GROUP + 1) - 1

    def fit(self, length: int | None) -> Shape:
        """Return the form in a column that stores ``length`` characters; None: any number."""
        free = self.body_length if length is None else length - len(self.prefix) - len(self.suffix)
        if free >= min(self.body_length, 2 * (GROUP + 1) - 1):
            return structs.replace(self, length=min(free, self.body_length))
        free += len(self.prefix)
        return structs.replace(self, prefix="", length=min(free, self.body_length))


SHAPES: Mapping[Kind, Shape] = {
    "email": Shape("u", 5, f"@{DOMAIN}"),
    "login": Shape("u", 5),
    "name": Shape("Person ", 4),
    # dots would make it contain addresses of networks by chance
    "phone": Shape("+999 ", 4, is_numeric=True, joint="/"),
    "address": Shape("Street ", 4),
    "url": Shape(f"https://{DOMAIN}/", 5),
    "token": Shape("", 8),
    "text": Shape("Text ", 5),
}
#: The kinds that replace texts by pseudonyms.
PSEUDONYMS: frozenset[Kind] = frozenset({*SHAPES, "ip"})
#: The kinds whose pseudonyms ignore the case of letters in ASCII, which sign-ins and e-mail do; the first letter shows whether there were capitals.
CASELESS: frozenset[Kind] = frozenset({"email", "login"})


def read_length(column: Column) -> int | None:
    """Return the number of characters that a column stores; None: any number that a pseudonym may have."""
    match = re.search(r"(?:CHAR|BINARY|CHARACTER VARYING|CHARACTER)\s*\((\d+)\)", column.type)
    return int(match[1]) if match else _IMPLIED_LENGTHS.get(column.type)


#: Bytes of the file of a key.
_LEAST_BYTES, _MAX_BYTES = 16, 4096


class CopyKey:
    """The key of one copy. A missing file is created before a destination is written."""

    def __init__(self, path: Path | None) -> None:
        """Read the file.

        Raises:
            CopyKeyInvalidError: it is too short, too long, or cannot be read.
        """
        self._path, self._is_new, self._is_saved = path, path is None or not path.exists(), False
        content = secrets.token_hex(32).encode()
        if path and not self._is_new:
            try:
                content = atomic.read_whole(path, _MAX_BYTES).strip()
            except OSError as error:
                raise self._error(path, error.strerror or str(error)) from error
            if len(content) < _LEAST_BYTES:
                raise self._error(path, f"it has {len(content)} bytes")
        elif path and not path.parent.is_dir():
            raise self._error(path, "its folder does not exist")
        self._content = content

    @staticmethod
    def _error(path: Path, reason: str) -> CopyKeyInvalidError:
        return CopyKeyInvalidError(path=path, reason=reason, least=_LEAST_BYTES)

    @property
    def secret(self) -> bytes:
        return sha256(self._content).digest()

    def save(self) -> None:
        """Create the file if it was missing, readable for this user alone.

        Raises:
            DiskFullError, FileFailedError: it cannot be written, or another process has created it since then, with another key.
        """
        if self._path and self._is_new:
            with atomic.create_file(self._path) as file:
                file.write(self._content + b"\n")
            self._is_saved = True

    def discard(self) -> None:
        """Delete the file that ``save`` created, because the copy failed."""
        if self._path and self._is_saved:
            self._path.unlink(missing_ok=True)


class Pseudonyms:
    """The pseudonyms under one key, in Python; the SQL of an engine returns the same text."""

    def __init__(self, key: bytes, hashes: Mapping[tuple[str, str], str] = {}) -> None:
        """Use a secret key; ``hashes`` are the values of columns with passwords, by table and column."""
        self.hashes = hashes
        #: the key as HMAC adds it to its two digests (RFC 2104); ``hmac.digest`` takes three times as long as computing these
        padded = key.ljust(BLOCK, b"\0")
        self.inner, self.outer = (bytes(byte ^ pad for byte in padded) for pad in (0x36, 0x5C))
        #: the digests after the key, and after the key and a kind: copying them takes less time than computing them
        self._outer = sha256(self.outer)
        self._inner = {kind: sha256(self.inner + kind.encode() + b"\0") for kind in get_args(Kind)}
        #: days by which dates become earlier
        self.shift = 1 + int.from_bytes(hmac.digest(key, b"date", "sha256")[:4], "big") % 365

    def digest(self, kind: Kind, raw: bytes) -> str:
        """Return the digest of a value, in hexadecimal."""
        if kind in CASELESS and raw.isascii():
            raw = raw.lower()
        inner, outer = self._inner[kind].copy(), self._outer.copy()
        inner.update(raw)
        outer.update(inner.digest())
        return outer.hexdigest()

    def replace(self, kind: Kind, text: str, length: int | None = None) -> str:
        """Return the pseudonym of a text in a column that stores ``length`` characters; an empty text stays empty."""
        if not text:
            return text
        digest = self.digest(kind, text.encode("utf-8", "surrogateescape"))
        if kind == "ip":
            return write_address(digest, is_long=":" in text)
        shape = _fit_shape(kind, length)
        digest = digest.translate(DIGITS) if shape.is_numeric else digest
        has_capitals = kind in CASELESS and text.isascii() and not text.islower() and text != text.lower()
        body = shape.joint.join([digest[group] for group in GROUPS[: shape.groups]])
        return f"{shape.prefix.upper() if has_capitals else shape.prefix}{body[: shape.length]}{shape.suffix}"

    def rewrite(self, table: str, column: Column, rule: ColumnRule) -> Rewrite:
        """Return the function that rewrites the values of a column."""
        change = partial(
            self._rewrite_one, (table, column.name), read_length(column), None if column.nullable else ""
        )

        def apply(value: object, *selectors: object) -> Any:
            return apply_rule(rule, change, value, selectors)

        def replace(value: object) -> Any:
            return self.replace(rule.kind, value, length) if type(value) is str else change(rule.kind, value)

        length = read_length(column)
        return replace if is_plain(rule) and rule.kind in PSEUDONYMS else apply

    def _rewrite_one(
        self, path: tuple[str, str], length: int | None, empty: object, kind: Kind, value: object
    ) -> object:
        if kind == "keep" or value is None or value in ("", b""):  # a value of the profile's part or document
            return value
        if kind == "null":
            return empty
        if kind == "date":
            return self._shift(value, length)
        if kind == "number":
            return self._add_noise(value)
        if kind == "password":
            new = self.hashes.get(path, UNUSABLE)
        elif isinstance(value, int | float):
            return self._replace_number(kind, value)
        else:
            new = self.replace(kind, decode(value), length)
        return new.encode() if isinstance(value, bytes) else new

    def _replace_number(self, kind: Kind, value: float) -> float:
        """Return another number with as many digits: a text in a column without types, such as a telephone number."""
        digits = self.digest(kind, str(value).encode()).translate(DIGITS)
        return int("9" + digits[: min(len(str(value)), 18) - 1])

    def _shift(self, value: object, length: int | None) -> object:
        if isinstance(value, int | float):
            return self._shift_number(value)
        text = decode(value)
        if _DECIMAL.fullmatch(text):
            new = str(self._shift_number(int(text)))
        elif (match := _ISO_DATE.fullmatch(text)) and (day := self._shift_day(match[1])):
            new = f"{day}{text[len(match[1]) :]}"
        else:
            new = self.replace("text", text, length)
        return new.encode() if isinstance(value, bytes) else new

    def _shift_number(self, value: float) -> float:
        if value in _WITHOUT_DAY:
            return value
        text = str(value)
        if len(text) == len("yyyymmdd") and (day := self._shift_day(f"{text[:4]}-{text[4:6]}-{text[6:]}")):
            return int(day.replace("-", ""))
        return value - self.shift * next((day for least, day in _EPOCHS if abs(value) >= least), 1)

    def _shift_day(self, text: str) -> str:
        """Return an earlier day; one that the calendar does not reach, and that for no date, remain. Empty: it is no day."""
        if text == _NO_DATE:
            return text
        try:
            return str(date.fromisoformat(text) - timedelta(days=self.shift))
        except OverflowError:
            return text
        except ValueError:
            return ""

    def _add_noise(self, value: object) -> object:
        """Return a number that differs by at most a tenth."""
        if isinstance(value, int | float):
            share = self._choose_share(str(value)) / 1280
            return value + (round(value * share) if isinstance(value, int) else value * share)
        text = decode(value)
        try:
            new = self._add_decimal_noise(text)
        except InvalidOperation:
            new = self.replace("text", text)
        return new.encode() if isinstance(value, bytes) else new

    def _add_decimal_noise(self, text: str) -> str:
        """Return a number that differs by at most a tenth, with as many decimals."""
        number = Decimal(text)
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int):  # NaN or infinity
            return text
        with localcontext(prec=len(text) + 10):
            return str(
                (number + number * self._choose_share(text) / 1280).quantize(Decimal((0, (1,), exponent)))
            )

    def _choose_share(self, text: str) -> int:
        """Return a number from -128 to 127."""
        return int(self.digest("number", text.encode())[:2], 16) - 128


def decode(value: object) -> str:
    """Return a value as text; bytes that are not UTF-8 become surrogates."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def write_address(digest: str, *, is_long: bool) -> str:
    """Return an address of a network that is never used: of IPv6's documentation, or of IPv4's reserved class E."""
    if is_long:
        return "2001:db8:" + ":".join(digest[at : at + 4] for at in range(0, 24, 4))
    digits = digest.translate(DIGITS)
    return f"24{digits[0]}.1{digits[1:3]}.1{digits[3:5]}.1{digits[5:7]}"


@lru_cache(maxsize=1024)
def _fit_shape(kind: Kind, length: int | None) -> Shape:
    return SHAPES[kind].fit(length)


@lru_cache(maxsize=4096)
def _match(pattern: str, text: str) -> bool:
    return fnmatchcase(text, pattern)


def is_plain(rule: ColumnRule) -> bool:
    """Return whether a rule replaces each value as a whole, in the same way."""
    return not (rule.by or rule.after or rule.before or rule.kind == "json")


def has_documents(rule: ColumnRule) -> bool:
    """Return whether a rule is one of the texts in documents."""
    return rule.kind == "json" or any(value.kind == "json" for value in rule.values.values())


def apply_rule(rule: ColumnRule, change: Change, value: object, selectors: Sequence[object] = ()) -> object:
    """Return a value after ``change`` of each part of it that a rule replaces or keeps; ``selectors`` are values of the columns ``by``."""
    if not rule.by:
        return _apply_rule(rule, rule, change, value)
    return _apply_rule(select_rule(rule, selectors), rule, change, value)


def select_rule(rule: ColumnRule, selectors: Sequence[object]) -> ValueRule:
    """Return the rule of a row; ``selectors`` are its values of the columns ``by``."""
    selector = ".".join("" if item is None else decode(item) for item in selectors)
    return next((entry for pattern, entry in rule.values.items() if _match(pattern, selector)), rule)


def _apply_rule(rule: ValueRule, column: ColumnRule, change: Change, value: object) -> object:
    if value is None or value in ("", b""):
        return value
    if rule.kind == "json":
        return _rewrite_document(rule, column, change, value)
    if not (rule.after or rule.before):
        return change(rule.kind, value)
    text = decode(value)
    before, after, rest = text.partition(rule.after) if rule.after else ("", "", text)
    part, end, tail = rest.partition(rule.before) if rule.before else (rest, "", "")
    if (rule.after and not after) or (rule.before and not end):
        return change(rule.rest, value)
    new = "".join([before, after, decode(change(rule.kind, part)), end, tail])
    return new.encode("utf-8", "surrogateescape") if isinstance(value, bytes) else new


def _rewrite_document(rule: ValueRule, column: ColumnRule, change: Change, value: object) -> object:
    from dbctl.extensions.copies.embedded import rewrite_texts

    rest = ValueRule(kind="text" if rule.rest == "json" else rule.rest)
    text = decode(value)
    if _JSON_SCALAR.fullmatch(text) and len(text.partition(".")[0]) < LONG_NUMBER:
        return value  # a document without texts; a longer number may be one of a telephone

    def replace(text: str, path: str) -> str:
        selected = next((entry for pattern, entry in column.paths.items() if _match(pattern, path)), rest)
        new = _apply_rule(selected, column, change, text)
        return "" if new is None else decode(new)

    def replace_key(text: str, _path: str) -> str:
        kind = next((kind for pattern, kind in column.keys.items() if _match(pattern, text)), None)
        return decode(change(kind, text)) if kind else text

    # a document that cannot be read is one text
    new = rewrite_texts(
        text,
        replace,
        unreadable=lambda text, _path: decode(change("text", text)),
        rewrite_key=replace_key if column.keys else None,
    )
    return new.encode("utf-8", "surrogateescape") if isinstance(value, bytes) else new
