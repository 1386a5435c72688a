"""Columns with personal data, recognised by their types, names and sampled values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Literal, TypeAlias

import msgspec

from dbctl.engines.contract.database import Column
from dbctl.model import JSON_ERRORS, Struct
from dbctl.services.app.evidence import subjects
from dbctl.services.app.evidence.gather import TableEvidence
from dbctl.services.app.evidence.references import normalize, shorten

#: What the values of a column are; ``keep``: generated keys and times, which identify no person.
PersonalKind: TypeAlias = Literal["email", "login", "name", "phone", "address", "ip", "url", "text", "json", "keep"]  # fmt: skip

#: Declared types whose values are no personal data: numbers, booleans, times, enumerations, and arrays of these. A domain, and a column of
#: SQLite, can have any name, also one that only begins like these.
_IMPERSONAL_TYPE = re.compile(
    r"(?:(?:UNSIGNED )?(?:TINY|SMALL|MEDIUM|BIG|U)?INT(?:EGER)?|(?:SMALL|BIG)?SERIAL|(?:HALF_?)?FLOAT|DOUBLE|REAL|NUMERIC|NUMBER|DEC(?:IMAL)?"
    r"|MONEY|BOOL(?:EAN)?|BIT|YEAR|DATE(?:TIME)?|TIME(?:STAMP)?|INTERVAL|DURATION|UUID|ENUM|OID"
    r"|(?:INT[48]|NUM|TS|TSTZ|DATE)(?:MULTI)?RANGE)(?:\d+|TZ)?(?![A-Z0-9_$])|SET\("
)
#: Names of columns, without the prefix of their table; the first that matches counts.
_NAMES: Mapping[PersonalKind, re.Pattern[str]] = {
    "email": re.compile(r"(^|_)(e_?)?mails?(_?addr(ess(es)?)?)?$"),
    "ip": re.compile(r"(^|_)(ip(v[46])?|remote)(_?addr(ess)?)?$|^(client|host|last)_?ip$"),
    "phone": re.compile(r"(^|_)(phone|mobile|telephone|tel|fax|cell|msisdn)(_?(number|no))?$"),
    "address": re.compile(r"(^|_)(street|city|town|zip(_?code)?|post(al)?_?code|addr(ess)?(_?line)?(_?\d)?|location|residence)$"),
    "url": re.compile(r"(^|_)(ur[il]|website|homepage|web_?page|href)$"),
    "login": re.compile(r"(^|_)(user_?name|login(_?name)?|nick(_?name)?|handle|screen_?name)$"),
    "name": re.compile(
        r"(^|_)(first|last|middle|full|display|real|given|family|sur|maiden|contact|author|sender|recipient|customer|person)_?name$"
        r"|^(author|company|organi[sz]ation)$"
    ),
    "text": re.compile(
        r"(^|_)(body|contents?|text|message|comments?|notes?|description|bio|about|subject|title|summary|excerpt|biography|remarks?"
        r"|file_?name|user_?agent)$"
    ),
}  # fmt: skip
_EMAIL = re.compile(r"[^@\s<>]+@[^@\s<>]+\.[^@\s<>]+")
_URL = re.compile(r"https?://\S+")
_PHONE = re.compile(r"\+\d[\d ()./-]{6,20}")


class PersonalColumn(Struct, frozen=True):
    """What a column probably contains."""

    column: str
    kind: PersonalKind
    evidence: str


def can_be_personal(column: Column) -> bool:
    """Return whether values of the type of a column can be personal data: not those of numbers, times and enumerations."""
    return not (column.native or column.is_generated or _IMPERSONAL_TYPE.match(column.type))


def recognise_columns(table: TableEvidence) -> Iterator[PersonalColumn]:
    """Yield what the columns that can hold personal data contain, by most of their sampled values, or else by their names."""
    for column in table.columns.values():
        if can_be_personal(column):
            stored = [value for value in table.values(column.name) if value not in ("", b"")]
            recognised = _recognise_values(column, stored) or _recognise_name(table, column)
            if recognised:
                yield PersonalColumn(column.name, *recognised)


def _recognise_values(column: Column, stored: Sequence[object]) -> tuple[PersonalKind, str] | None:
    texts = [value for value in stored if isinstance(value, str)]
    for kind, (is_of_kind, label) in _FORMS.items():
        count = sum(map(is_of_kind, texts))
        if count * 2 > len(stored) > 0:
            return kind, f"{count} of {len(stored)} values are {label}"
    if texts and len(texts) == len(stored) and subjects.is_time(column, texts):
        return "keep", f"{len(texts)} of {len(stored)} values are times"
    codec, evidence = subjects.guess_key_codec(column, [*texts]) if texts else ("given", "")
    return ("keep", evidence) if codec != "given" and evidence.startswith(f"{len(stored)} of") else None


def _recognise_name(table: TableEvidence, column: Column) -> tuple[PersonalKind, str] | None:
    names = (normalize(column.name), shorten(table, column.name))
    if "JSON" in column.type:
        return "json", "the type of the column"
    kind = next((kind for kind, pattern in _NAMES.items() if any(map(pattern.search, names))), None)
    return (kind, "the name of the column") if kind else None


def _is_address(text: str) -> bool:
    try:
        ip_address(text.partition("/")[0])
    except ValueError:
        return False
    return True


def _is_document(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        msgspec.json.decode(text)
    except JSON_ERRORS:
        return False
    return True


def _is_matched(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


#: Forms of values, and what they are called.
_FORMS: Mapping[PersonalKind, tuple[Callable[[str], bool], str]] = {
    "email": (_is_matched(_EMAIL), "e-mail addresses"),
    "ip": (_is_address, "network addresses"),
    "url": (_is_matched(_URL), "addresses of pages"),
    "phone": (_is_matched(_PHONE), "telephone numbers"),
    "json": (_is_document, "JSON documents"),
}
