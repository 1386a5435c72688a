"""The table of extensions names modules, functions and engines that exist."""

from __future__ import annotations

import pytest

from dbctl.engines.registry import load_engine
from dbctl.extensions import registry
from dbctl.url import find_engine


@pytest.mark.parametrize("extension", registry.list_built_in(), ids=lambda extension: extension.name)
def test_places_of_extension_exist(extension):
    groups = {**extension.groups, **extension.commands}
    for words, place in groups.items():
        assert registry.load(place).GROUP.name in (words, words.rpartition(" ")[0])
    for engine, place in extension.parts.items():
        assert find_engine(engine)
        assert callable(registry.load(place))
    for name in extension.engines:
        assert load_engine(name).name == name
