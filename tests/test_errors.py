"""Error classes: each is raised by the package, and has a sentence and a remedy."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

import dbctl
from dbctl.errors.base import Exit, load_registry

PACKAGE = Path(dbctl.__file__).parent


@cache
def list_called_names() -> set[str]:
    return {
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r"(?<!class )\b(\w+)\(", path.read_text(encoding="utf-8"))
    }


@pytest.mark.needs_extension
@pytest.mark.parametrize("error", load_registry().values(), ids=lambda error: error.code)
def test_error_is_raised_by_package(error):
    assert error.__name__ in list_called_names(), "no code raises this error: raise it, or delete its class"


@pytest.mark.parametrize("error", load_registry().values(), ids=lambda error: error.code)
def test_error_has_sentence_remedy_and_exit_status(error):
    assert error.sentence
    assert error.remedy
    assert error.exit_status in set(Exit) - {Exit.OK}
