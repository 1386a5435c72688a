"""Recognize the columns and formats of passwords."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dbctl.model import Struct
from dbctl.profiles.codecs import HashFormat
from dbctl.profiles.passwords import JOINT, find_prefix_problem, identify_format, read_prefix
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import Evidence, TableEvidence
from dbctl.services.profiles.draft.document import Decision, Line, Value, write_comment

#: Beginnings of values that apps store for accounts without a password, and the patterns for them.
UNUSABLE = {"!": "!*", "*": "[*]*", "x": "x", "": ""}


class PasswordDraft(Struct, frozen=True, kw_only=True):
    """The lines about passwords, and what they leave open."""

    columns: Sequence[str] = ()  #: the columns of passwords, which are no fields
    lines: Sequence[Line | str] = ()
    decisions: Sequence[Decision] = ()


class _Sample(Struct, frozen=True, kw_only=True):
    """The stored texts of passwords, from the first to the last user."""

    columns: Sequence[str]
    stored: Sequence[str]

    @property
    def formats(self) -> Counter[HashFormat]:
        return Counter(name for text in self.stored if (name := identify_format(text)))


def draft_password(evidence: Evidence, table: TableEvidence) -> PasswordDraft:
    """Return the lines about the passwords in a table of users."""
    candidates = references.match_columns(table, references.PASSWORD)
    samples = [_read(table, [column]) for column in candidates]
    samples += [
        _read(table, [salt, column])
        for column in candidates
        for salt in references.match_columns(table, references.SALT)
        if all(subjects.is_text(table.columns[name]) for name in (salt, column))
    ]
    if not samples:
        return PasswordDraft()
    best = max(samples, key=lambda sample: sample.formats.total())
    return _describe(best, _find_pepper(evidence)) if best.formats else _describe_unknown(best)


def _find_pepper(evidence: Evidence) -> str:
    """Return the stored key of a secret that the app adds to passwords before it hashes them; empty: none is stored."""
    for table in evidence.base_tables():
        for column in references.find_names(table, references.SETTING_KEY):
            for value in table.values(column):
                if isinstance(value, str) and references.PEPPER.search(references.normalize(value)):
                    return f"{value} in {table.name}"
    return ""


def _read(table: TableEvidence, columns: Sequence[str]) -> _Sample:
    rows = [[row.get(column) for column in columns] for row in table.rows]
    stored = [JOINT.join(map(_text, values)) for values in rows if values[-1] is not None]
    return _Sample(columns=columns, stored=stored)


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value or "")


def _describe(sample: _Sample, pepper: str) -> PasswordDraft:
    formats, total, decisions = sample.formats, len(sample.stored), list[Decision]()
    newest = next(text for text in reversed(sample.stored) if identify_format(text))
    prefix = read_prefix(newest)
    problem = find_prefix_problem(prefix)
    written = identify_format(newest)
    password: dict[str, Value] = {"column": sample.columns[-1]}
    if len(sample.columns) > 1:
        password["prefix_columns"] = list(sample.columns[:-1])
    counts = ", ".join(f"{count} of {total} values are {name}" for name, count in formats.most_common())
    evidence = counts if len(formats) == 1 else f"{counts}; the newest is {written}"
    unknown = [text for text in sample.stored if identify_format(text) is None]
    unusable = sorted(
        {pattern for start, pattern in UNUSABLE.items() if any(_begins(text, start) for text in unknown)}
    )
    if unusable:
        password["unusable"] = unusable
        evidence += f"; {len(unknown)} are no hashes"
    unexplained = [
        text for text in unknown if text.strip(JOINT) and not any(_begins(text, start) for start in UNUSABLE)
    ]
    if problem:
        decisions.append(Decision("passwords", f"dbctl cannot write {written} hashes: {problem}"))
    elif pepper:
        text = f"the app may change passwords before it hashes them, with {write_comment(pepper)}"
        decisions.append(Decision("passwords", text))
    elif len(formats) > 1:
        text = f"the app writes one of {len(formats)} formats of passwords ({evidence})"
        decisions.append(Decision("passwords", text))
    elif unexplained:
        text = f"{len(unexplained)} of {total} passwords have an unknown format; the app may write that one"
        decisions.append(Decision("passwords", text))
    candidate = list[Line | str]()
    if decisions and not problem:
        candidate.append(
            Line("password", {**password, "writes": prefix, "accepts": [*formats]}, is_candidate=True)
        )
    if not decisions:
        password["writes"] = prefix
    else:
        password["accepts"] = [*formats]
    lines: list[Line | str] = [
        Line("password", password, evidence),
        *candidate,
        "The database does not show whether the app adds a secret of its configuration to passwords: pepper = true",
    ]
    return PasswordDraft(columns=sample.columns, lines=lines, decisions=decisions)


def _begins(text: str, start: str) -> bool:
    return text == start if start in ("", "x") else text.startswith(start)


def _describe_unknown(sample: _Sample) -> PasswordDraft:
    reason = "no known format" if sample.stored else "no stored hash shows the format"
    line = Line(
        "password",
        {"column": sample.columns[-1], "writes": "$2b$10$"},
        f"{reason}; {len(sample.stored)} values",
        is_candidate=True,
    )
    decision = Decision("passwords", f"the format of passwords: {reason}")
    return PasswordDraft(columns=sample.columns, lines=[line], decisions=[decision])
