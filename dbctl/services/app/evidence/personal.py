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
PersonalKind: TypeAlias = Literal["email", "login", "name", "phone", "address", "ip", "url", "text", "json", "date", "token", "number", "keep"]  # fmt: skip

#: Declared types whose values are personal data only if the column is named so: numbers, booleans, times, enumerations, and arrays
#: of these. A domain, and a column of SQLite, can have any name, also one that only begins like these.
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
#: Names of columns of numbers and times, as ``_NAMES``; of other ones, the values identify no person.
_NUMBER_NAMES: Mapping[PersonalKind, re.Pattern[str]] = {
    "date": re.compile(
        r"(^|_)(birth(_?(day|date|year))?|(date|year)_of_birth|dob|born(_(at|on|date|year))?)$"
    ),
    "phone": _NAMES["phone"],
    "token": re.compile(
        r"(^|_)(zip(_?code)?|post(al)?_?code|ssn|iban|card_?number"
        r"|(social_security|insurance|national|identity|passport|personal|tax)_?(id|number|no|code))$"
    ),
    "number": re.compile(r"(^|_)(lat(itude)?|lng|lon(gitude)?|salary|wages?|income)$"),
}
_EMAIL = re.compile(r"[^@\s<>]+@[^@\s<>]+\.[^@\s<>]+")
_URL = re.compile(r"https?://\S+")
_PHONE = re.compile(r"\+\d[\d ()./-]{6,20}")


class PersonalColumn(Struct, frozen=True):
    """What a column probably contains."""

    column: str
    kind: PersonalKind
    evidence: str


def has_personal_type(column: Column) -> bool:
    """Return whether values of the type of a column can be personal data, whatever its name: not numbers, times and enumerations."""
    return not (column.native or column.is_generated or _IMPERSONAL_TYPE.match(column.type))


def can_be_personal(column: Column) -> bool:
    """Return whether values of a column can be personal data: by its type, or as numbers and times by its name, such as dates of birth."""
    return has_personal_type(column) or _recognise_number(column) is not None


def recognise_columns(table: TableEvidence) -> Iterator[PersonalColumn]:
    """Yield what the columns that can hold personal data contain, by most of their sampled values, or else by their names."""
    for column in table.columns.values():
        if can_be_personal(column):
            stored = [value for value in table.values(column.name) if value not in ("", b"")]
            recognised = (
                _recognise_number(column)
                or _recognise_values(column, stored)
                or _recognise_name(table, column)
            )
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


def _recognise_number(column: Column) -> tuple[PersonalKind, str] | None:
    is_flag = column.native not in ("", "time") or re.match(r"BOOL|BIT|ENUM|UUID|SET\(", column.type)
    if is_flag or column.is_generated or has_personal_type(column):
        return None
    name = normalize(column.name)
    if re.match(r"(is|has|can|show|hide|use)_", name):  # a flag that is stored as a number
        return None
    kind = next((kind for kind, pattern in _NUMBER_NAMES.items() if pattern.search(name)), None)
    return (kind, "the name of the column") if kind else None


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
