"""Error classes: each is raised by the package, and has a sentence and a remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dbctl
from dbctl.errors.base import Exit, load_registry

PACKAGE = Path(dbctl.__file__).parent


def list_called_names() -> set[str]:
    """Return the names that are called, and those whose patterns a table has, as that of what ssh reports."""
    return {
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r"(?<!class )\b(\w+)(?:\(|: \{)", path.read_text(encoding="utf-8"))
    }


@pytest.mark.needs_extension
def test_every_error_is_raised_by_package():
    called = list_called_names()
    unused = [error.__name__ for error in load_registry().values() if error.__name__ not in called]
    assert unused == [], "no code raises these errors: raise them, or delete their classes"


def test_every_error_has_code_sentence_remedy_and_exit_status():
    for error in load_registry().values():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", error.code), error
        assert error.sentence, error
        assert not error.sentence.endswith("."), f"{error}: the sentence must be valid after 'dbctl:'"
        assert error.remedy, error
        assert error.exit_status in set(Exit) - {Exit.OK}, error
