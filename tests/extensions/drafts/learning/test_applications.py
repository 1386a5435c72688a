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
    "n8n": ((1, 2, 7), ()),
    "synapse": ((1, 2, 3, 4, 5), ()),
}
#: Applications whose deletion of users has rules that one demonstration does not show.
ONLY_BUILT_IN = ("n8n",)


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
    selected = ["--url", str(servers.postgresql())] if engine == "postgresql" else []
    selected += ["--config", str(configure_empty_pepper(tmp_path, app))]
    built_in = (BUILTIN / f"{app}.toml").read_text()
    for text in [built_in] if app in ONLY_BUILT_IN else [profile.read_text(), built_in]:
        profile.write_text(text)
        replays = answer(*selected, "profiles", "prove", str(profile))["data"]["recordings"]
        assert [replay["status"] for replay in replays] == ["proven"] * len(numbers)


def configure_empty_pepper(folder: Path, app: str) -> Path:
    """Return a configuration by which the app appends nothing to passwords, as Synapse after its installation."""
    config = folder / "dbctl.toml"
    (folder / "pepper").touch()
    config.write_text(
        f'[apps.app]\nprofile = "{app}.toml"\npepper_file = "pepper"\n[apps.app.databases]\nmain = "app.db"\n'
    )
    return config
