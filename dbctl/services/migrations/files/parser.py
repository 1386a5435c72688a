"""Parse a migration file: its up and down sections, and its directives for dbctl."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from msgspec import structs

from dbctl.engines.contract.schema import ScriptDialect
from dbctl.errors.base import suggest_question
from dbctl.model import Struct
from dbctl.profiles.model.databases import Format
from dbctl.services.migrations.lint_rules import LINT_RULES


class _MarkerFormat(NamedTuple):
    """The markers that begin the up and the down section: comments on separate lines."""

    up: str  #: for a new file
    down: str
    pattern: str  #: of the comment, with the direction as ``{}``; for dbmate, options may follow
    #: text that the runner recognises as a marker anywhere, because it does not parse SQL
    raw_pattern: re.Pattern[str]
    is_required: bool = True  #: whether the runner refuses a file without an up marker

    def find_direction(self, comment: str) -> Literal["up", "down", ""]:
        """Return the direction of a marker; empty for other comments."""
        for direction in ("up", "down"):
            if re.fullmatch(self.pattern.format(direction), comment, re.IGNORECASE):
                return direction
        return ""


_MARKERS = {
    "up-down": _MarkerFormat(
        "-- Up", "-- Down", "{}", re.compile(r"--\s*down", re.IGNORECASE), is_required=False
    ),
    "dbmate": _MarkerFormat(
        "-- migrate:up",
        "-- migrate:down",
        r"migrate:{}(?:\s.*)?",
        re.compile(r"^--\s*migrate:(?:up|down)\b", re.MULTILINE),
    ),
    "goose": _MarkerFormat(
        "-- +goose Up",
        "-- +goose Down",
        r"\+goose\s+{}",
        re.compile(r"^--\s*\+goose\s+(?:up|down)\b", re.MULTILINE | re.IGNORECASE),
    ),
}
_NO_TRANSACTION_MARKER = re.compile(
    r"migrate:(?:up|down)\s.*\btransaction\s*:\s*false\b.*|\+goose\s+no\s+transaction", re.IGNORECASE
)
_UNSUPPORTED_MARKER = re.compile(r"\+goose\s+envsub\s+on", re.IGNORECASE)
_DIRECTIVE = re.compile(r"dbctl\s*:(?P<words>.*)", re.IGNORECASE)
#: Directives, on a line ``-- dbctl: WORD``: inside a section for that section, above the first section for all.
NO_TRANSACTION, ALLOW_DATA_LOSS = "no-transaction", "allow-data-loss"
#: ``-- dbctl: allow CODE`` suppresses a lint finding: for the next statement; for the whole file if the line is above the
#: first section or, in files without sections, above the blank line before the first statement.
ALLOW = "allow"
_POSSIBLE_MARKER = re.compile(r"--[ \t]*(?:up|down|migrate:|\+goose|dbctl[ \t]*:)", re.IGNORECASE)


class AllowedCode(Struct, frozen=True):
    """A lint code that the file allows."""

    code: str
    line: int  #: of the directive
    in_whole_file: bool  #: otherwise only in the next statement


class Section(Struct, frozen=True, kw_only=True):
    """The text of one direction; the lines of the other are blank, which preserves line numbers."""

    text: str
    outside_transaction: bool = False  #: its statements run one by one, without a transaction
    allows_data_loss: bool = False  #: it may delete rows
    marker_line: int = 0  #: line of the marker; 0: no marker, the section is the whole file
    #: lines that the runner of the format, which does not parse SQL, reads as the next marker
    hidden_marker_lines: Sequence[int] = ()
    allowed: Sequence[AllowedCode] = ()


class Sections(Struct, frozen=True, kw_only=True):
    """The sections of one file."""

    up: Section
    down: Section | None = None


class _Marker(Struct, frozen=True):
    line: int
    direction: str
    outside_transaction: bool


def parse_sections(text: str, format: Format, language: ScriptDialect) -> Sections:  # noqa: A002 - the name in the profile
    """Split a file of the SQL dialect ``language`` into sections; with the ``format`` ``auto``, it may use any of the markers.

    Markers are comments on separate lines; text inside strings, other comments, brackets or trigger bodies is not a marker.

    Raises:
        ValueError: a marker or directive is invalid; the message contains the line.
    """
    text = text.removeprefix("\ufeff")
    comments = language.comments(text) if _POSSIBLE_MARKER.search(text) else []
    marker_format = _detect_marker_format(format, comments)
    markers = _find_markers(marker_format, comments)
    first = markers[0].line if markers else 0
    directives, allowed_codes = _parse_directives(comments)
    file_words = {word for line, word in directives if line < first or not markers}
    if any(_NO_TRANSACTION_MARKER.fullmatch(comment) for _, comment in comments if comment.startswith("+")):
        file_words.add(NO_TRANSACTION)
    if not markers:
        if format in _MARKERS and _MARKERS[format].is_required:
            raise ValueError(f"it has no line that begins the up section ({_MARKERS[format].up})")
        header_end = _find_header_end(text, language) if allowed_codes else 0
        allowed = [AllowedCode(code, line, in_whole_file=line < header_end) for line, code in allowed_codes]
        return Sections(up=_create_section(text, file_words, allowed))
    # splitlines() would also divide texts at other characters
    lines = [f"{line}\n" for line in text.split("\n")]
    for marker in markers:
        # to PostgreSQL, a comment also ends at a carriage return
        if "\r" in lines[marker.line - 1].strip():
            raise ValueError(f"line {marker.line}: a marker on a line that contains a carriage return")
    if language.split("".join(lines[: first - 1])):
        raise ValueError(f"a statement above line {first}, where the up section begins, would not run")
    ends = [*(marker.line for marker in markers[1:]), len(lines) + 1]
    sections: dict[str, Section] = {}
    for marker, end in zip(markers, ends, strict=True):
        words = file_words | {word for line, word in directives if marker.line < line < end}
        words |= {NO_TRANSACTION} if marker.outside_transaction else set()
        allowed = [
            AllowedCode(code, line, in_whole_file=line < first)
            for line, code in allowed_codes
            if line < first or marker.line < line < end
        ]
        body = "\n" * marker.line + "".join(lines[marker.line : end - 1])
        sections[marker.direction] = structs.replace(
            _create_section(body, words, allowed),
            marker_line=marker.line,
            hidden_marker_lines=_find_hidden_markers(marker_format, body),
        )
    return Sections(up=sections["up"], down=sections.get("down"))


def _create_section(text: str, words: set[str], allowed: Sequence[AllowedCode]) -> Section:
    return Section(
        text=text,
        outside_transaction=NO_TRANSACTION in words,
        allows_data_loss=ALLOW_DATA_LOSS in words,
        allowed=allowed,
    )


def _find_hidden_markers(marker_format: str, body: str) -> list[int]:
    """Return the lines at which a runner that does not parse SQL would end the section."""
    return [
        body.count("\n", 0, match.start()) + 1 for match in _MARKERS[marker_format].raw_pattern.finditer(body)
    ]


def _find_header_end(text: str, language: ScriptDialect) -> int:
    """Return the last blank line above the first statement, or 0."""
    statements = language.split(text)
    lines = text.split("\n")[: statements[0][0] - 1 if statements else 0]
    return max((number for number, line in enumerate(lines, 1) if not line.strip()), default=0)


def _detect_marker_format(format: Format, comments: Sequence[tuple[int, str]]) -> str:  # noqa: A002
    """Return the format whose markers the file uses."""
    if format != "auto":
        return format
    used = [
        family
        for family, markers in _MARKERS.items()
        if any(markers.find_direction(comment) for _, comment in comments)
    ]
    if len(used) > 1:
        raise ValueError(f"it has markers of several formats: {', '.join(used)}")
    return used[0] if used else format


def _find_markers(marker_format: str, comments: Sequence[tuple[int, str]]) -> list[_Marker]:
    markers: list[_Marker] = []
    for line, comment in comments:
        if _UNSUPPORTED_MARKER.fullmatch(comment):
            raise ValueError(f"line {line}: dbctl does not substitute environment variables (goose envsub)")
        direction = _MARKERS[marker_format].find_direction(comment) if marker_format in _MARKERS else ""
        if not direction:
            continue
        if direction in [marker.direction for marker in markers]:
            raise ValueError(f"line {line}: second {direction} section")
        if direction == "down" and not markers:
            raise ValueError(f"line {line}: the down section comes before the up section")
        markers.append(_Marker(line, direction, _NO_TRANSACTION_MARKER.fullmatch(comment) is not None))
    return markers


def _parse_directives(
    comments: Sequence[tuple[int, str]],
) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Return the words of lines ``-- dbctl: WORD`` and the codes of lines ``-- dbctl: allow CODE``, with line numbers."""
    directives, allowed_codes = list[tuple[int, str]](), list[tuple[int, str]]()
    for line, comment in comments:
        if not (matched := _DIRECTIVE.fullmatch(comment)):
            continue
        words = re.split(r"[\s,]+", matched["words"].strip().lower())
        if words[0] == ALLOW:
            allowed_codes += [(line, _parse_code(word, line)) for word in words[1:] or [""]]
            continue
        for word in words:
            if word not in (NO_TRANSACTION, ALLOW_DATA_LOSS):
                raise ValueError(
                    f"line {line}: unknown directive -- dbctl: {word or '…'}; use {NO_TRANSACTION}, {ALLOW_DATA_LOSS} or {ALLOW}"
                )
            directives.append((line, word))
    return directives, allowed_codes


def _parse_code(word: str, line: int) -> str:
    if word not in LINT_RULES:
        suggestion = suggest_question(word, LINT_RULES)
        raise ValueError(f"line {line}: -- dbctl: {ALLOW} {word or '…'}: unknown lint code{suggestion}")
    return word


def find_section_markers(newest: str, format: Format, language: ScriptDialect) -> tuple[str, str]:  # noqa: A002
    """Return the markers for a new file, in the format of the ``newest`` file of its folder; empty for plain files."""
    marker_format = _detect_marker_format(format, language.comments(newest))
    if marker_format == "auto" and not newest.strip():
        marker_format = "dbmate"
    markers = _MARKERS.get(marker_format)
    return (markers.up, markers.down) if markers else ("", "")
