"""Error classes: each is raised by the package, and has a sentence and a remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dbctl
from dbctl.errors import Exit, load_registry

PACKAGE = Path(dbctl.__file__).parent
SOURCES = [
    path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "errors"
]


@pytest.mark.parametrize("error", load_registry().values(), ids=lambda error: error.code)
def test_error_is_raised_by_package(error):
    assert any(re.search(rf"\b{error.__name__}\(", source) for source in SOURCES)


@pytest.mark.parametrize("error", load_registry().values(), ids=lambda error: error.code)
def test_error_has_sentence_remedy_and_exit_status(error):
    assert error.sentence
    assert error.remedy
    assert error.exit_status in set(Exit) - {Exit.OK}
