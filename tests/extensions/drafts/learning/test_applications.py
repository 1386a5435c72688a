"""From nothing but the demonstrations of an application to a proven profile; the built-in profile is proven by the same recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dbctl.profiles.loader import BUILTIN
from tests.extensions.drafts.learning.built_in_proofs import check_proofs
from tests.extensions.drafts.learning.demonstrations import list_pairs, select_server


class Demonstrations(NamedTuple):
    """The numbers of the pairs of an application by which profiles are proven."""

    learned: Sequence[int] = ()  #: a profile that is learned from them alone is proven, too
    further: Sequence[
        int
    ] = ()  #: only the built-in profile is proven: one demonstration does not show all rules
    options: Sequence[str] = ()  #: of the learned profile: what the admin decides
    engines: Sequence[str] = ("sqlite",)
    app: str = ""  #: the folder of the pairs; empty: the name of the profile


BOTH = ("sqlite", "postgresql")
#: By built-in profile; an engine may lack a pair.
DEMONSTRATIONS: Mapping[str, Demonstrations] = {
    "mlflow": Demonstrations((1, 4, 12), (3,), engines=BOTH),
    "calibre-web": Demonstrations((1, 3, 16), (7, 11), options=("--admin", "none")),
    "label-studio": Demonstrations((1, 5, 10, 17), (9, 11), engines=BOTH),
    "pgadmin4": Demonstrations(
        (1, 4, 15, 17), (3, 13, 16, 26), options=("--admin", "Administrator"), engines=BOTH
    ),
    "strapi": Demonstrations((1, 4, 10, 12), (8, 11), options=("--admin", "none")),
    "strapi-admin": Demonstrations(further=(18, 20, 24, 25, 27, 28, 31), app="strapi"),
    "superset": Demonstrations((1, 4, 5, 7, 8, 10), (6,), engines=BOTH),
    "directus": Demonstrations((1, 3, 5, 7, 11), (6, 10, 13), engines=BOTH),
    "n8n": Demonstrations(further=(1, 2, 7, 9)),
    "synapse": Demonstrations((1, 2, 3, 4, 5)),
    "ghost": Demonstrations(further=(2, 3, 4), engines=("mysql",)),
    "umami": Demonstrations(further=(1, 2, 4, 6), engines=("postgresql",)),
    "uptime-kuma": Demonstrations(further=(1, 2, 4), engines=("sqlite", "mysql")),
}
PARAMETERS = [(name, engine) for name, entry in DEMONSTRATIONS.items() for engine in entry.engines]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "engine"), PARAMETERS)
def test_learned_and_built_in_profiles_are_proven(
    learn: Callable[..., Any], answer: Callable[..., Any], tmp_path: Path, name: str, engine: str
) -> None:
    profile, built_in = tmp_path / f"{name}.toml", (BUILTIN / f"{name}.toml").read_text()
    entry = DEMONSTRATIONS[name]
    app = entry.app or name
    options = [*select_server(engine), "--config", str(configure_empty_pepper(tmp_path, name))]

    def prove() -> list[str]:
        recordings = answer(*options, "profiles", "prove", str(profile))["data"]["recordings"]
        return [recording["status"] for recording in recordings]

    for number in entry.learned:
        learn(app, number, profile, *entry.options, engine=engine)
    if entry.learned and engine == entry.engines[0]:  # test_pairs.py proves what is learned on the others
        assert prove() == ["proven"] * len(entry.learned)
    available = {pair.number for pair in list_pairs(app, engine)}
    further = [number for number in entry.further if number in available]
    for number in further:
        profile.write_text(built_in)
        learn(app, number, profile, engine=engine)
    profile.write_text(built_in)
    assert prove() == ["proven"] * (len(entry.learned) + len(further))
    check_proofs(profile, engine)


def configure_empty_pepper(folder: Path, app: str) -> Path:
    """Return a configuration by which the app appends nothing to passwords, as Synapse after its installation."""
    config = folder / "dbctl.toml"
    (folder / "pepper").touch()
    config.write_text(
        f'[apps.app]\nprofile = "{app}.toml"\npepper_file = "pepper"\n[apps.app.databases]\nmain = "app.db"\n'
    )
    return config
