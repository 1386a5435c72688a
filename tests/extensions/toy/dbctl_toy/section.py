"""The sections of the extension in ``dbctl.toml`` and in profiles."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Iterator, Sequence
from typing import Annotated

from msgspec import Meta

from dbctl.config.resolver import ConfigSection
from dbctl.profiles.model.base import TableName
from dbctl.profiles.model.profile import Profile, ProfileSection


class Toy(ConfigSection, frozen=True, kw_only=True):
    """``[apps.NAME.toy]``."""

    greeting: Annotated[str, Meta(description="the text")] = "from another distribution"


class ToySection(ProfileSection, frozen=True, kw_only=True):
    """``[toy]`` of a profile."""

    table: TableName
    goods: int = 1

    def find_problems(self, profile: Profile) -> Iterator[tuple[Sequence[str], str]]:
        if self.goods > len(profile.databases):
            yield ("goods",), "there are more goods than databases"
