"""From nothing but the demonstrations of an application to a proven profile; the built-in profile is proven by the same recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dbctl.profiles.loader import BUILTIN
from tests import servers

#: By application, the numbers of the pairs that are learned, and what the admin decides with options.
DEMONSTRATIONS: Mapping[str, tuple[Sequence[int], Sequence[str]]] = {
    "mlflow": ((1, 4, 12), ()),
    "calibre-web": ((1, 3, 16), ("--admin", "none")),
    "label-studio": ((1, 5, 10, 17), ()),
    "pgadmin4": ((1, 4, 15, 17), ("--admin", "Administrator")),
    "strapi": ((1, 4, 10, 12), ("--admin", "none")),
    "superset": ((1, 4, 5, 7, 8, 10), ()),
    "directus": ((1, 3, 5, 7, 11), ()),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("app", "engine"),
    [
        *((app, "sqlite") for app in DEMONSTRATIONS),
        *((app, "postgresql") for app in ("mlflow", "label-studio", "pgadmin4", "superset", "directus")),
    ],
)
def test_learned_and_built_in_profiles_are_proven(
    learn: Callable[..., Any], answer: Callable[..., Any], tmp_path: Path, app: str, engine: str
) -> None:
    profile, (numbers, options) = tmp_path / f"{app}.toml", DEMONSTRATIONS[app]
    for number in numbers:
        learn(app, number, profile, *options, engine=engine)
    server = ["--url", str(servers.postgresql())] if engine == "postgresql" else []
    for text in (profile.read_text(), (BUILTIN / f"{app}.toml").read_text()):
        profile.write_text(text)
        replays = answer(*server, "profiles", "prove", str(profile))["data"]["recordings"]
        assert [replay["status"] for replay in replays] == ["proven"] * len(numbers)
