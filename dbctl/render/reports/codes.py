"""The meaning of the codes of findings, from ``codes.toml``."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from dbctl.model import Severity, Struct


class CodeEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Codes with one meaning."""

    codes: Sequence[str]
    commands: Sequence[str] = ()  #: those that report it; empty: those of the subject
    severities: Sequence[Severity]  #: the most severe first, except where it depends on the profile
    meaning: str  #: Markdown
    action: str  #: Markdown


class CodeSubject(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The codes of one subject, and the commands that report them."""

    title: str
    commands: Sequence[str]
    entries: Sequence[CodeEntry]


class _Catalog(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    subject: Sequence[CodeSubject]


def read_subjects() -> Sequence[CodeSubject]:
    """Return the subjects in the order of the reference."""
    content = Path(__file__).with_name("codes.toml").read_bytes()
    return msgspec.toml.decode(content, type=_Catalog).subject
