"""Demonstrations by the applications: what is learned from one is proven by it, and wrong ones are refused.

Those that ``test_applications.py`` learns and proves are left out. The others are learned on one engine, and one of each action on
each further engine, which has no part in what is learned from its rows.
"""

from __future__ import annotations

import pytest

from dbctl.extensions.drafts.learning.recordings import ACTIONS
from tests.extensions.drafts.learning.demonstrations import APPS, ENGINES, Pair, list_pairs, select_server
from tests.extensions.drafts.learning.test_applications import DEMONSTRATIONS

pytestmark = pytest.mark.slow


def is_wrong(pair: Pair) -> bool:
    return pair.wrong or pair.before == pair.after


def list_selected_pairs() -> list[Pair]:
    """Return the pairs of each application on its first engine, and on each further engine one right pair of each action."""
    selected, further = list[Pair](), dict[tuple[str, str], Pair]()
    for app in APPS:
        first, *others = [engine for engine in ENGINES if list_pairs(app, engine)]
        learned = DEMONSTRATIONS[app].learned
        selected += [
            pair for pair in list_pairs(app, first) if pair.action in ACTIONS and pair.number not in learned
        ]
        for pair in [pair for engine in others for pair in list_pairs(app, engine)]:
            if pair.action in ACTIONS and not is_wrong(pair):
                further.setdefault((pair.engine, pair.action), pair)
    return [*selected, *further.values()]


PAIRS = list_selected_pairs()
#: Pairs that differ from what dbctl does, by application and number.
DIFFERENT = {
    ("label-studio", 2): "the application stores no hash for a user without a password",
    ("superset", 3): "its command line, unlike its interface, does not date the change",
    ("n8n", 7): "one demonstration does not show the rules of its deletion",
    ("synapse", 6): "a sign-out also deletes devices, and tells other servers",
    ("strapi", 16): "an invited user has no password, and is not active",
    ("umami", 5): "no user has the role before",
    ("umami", 6): "without foreign keys, one demonstration does not show all references to the user",
    **dict.fromkeys(
        [
            *(("ghost", number) for number in (3, 9)),
            *(("pgadmin4", number) for number in (14, 19, 20)),
            *(("calibre-web", number) for number in (8, 18)),
            *(("strapi", number) for number in (8, 9, 13, 26, 27, 31)),
            ("directus", 8),
        ],
        "this action alone does not show which users are admins",
    ),
}
#: Pairs that need a profile: a table of pairs of users and roles without foreign keys is found by no name.
UNKNOWN = [("ghost", 5), ("ghost", 6)]


def name_pair(pair: Pair) -> str:
    return f"{pair.app}-{pair.number}-{pair.name}-{pair.engine}"


@pytest.fixture
def prove(answer):
    """Run ``profiles prove`` on the engine of a pair, and return its recordings, with what differs."""

    def run(profile, engine):
        recordings = answer(*select_server(engine), "profiles", "prove", str(profile), status=None)["data"][
            "recordings"
        ]
        return {
            entry["recording"]: (entry["reason"], entry["differences"])
            for entry in recordings
            if entry["status"] == "failed"
        }

    return run


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if is_wrong(pair)], ids=name_pair)
def test_wrong_demonstration_is_refused(learn, tmp_path, pair):
    profile = tmp_path / "app.toml"
    error = learn(pair.app, pair.number, profile, engine=pair.engine, status=4)["error"]
    assert error["code"] in ("demonstration-empty", "demonstration-wrong")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "pair",
    [pair for pair in PAIRS if not is_wrong(pair) and (pair.app, pair.number) not in UNKNOWN],
    ids=name_pair,
)
def test_learned_profile_is_proven_by_its_demonstration(learn, prove, tmp_path, pair):
    profile = tmp_path / "app.toml"
    learn(pair.app, pair.number, profile, engine=pair.engine)
    if (pair.app, pair.number) not in DIFFERENT:
        assert prove(profile, pair.engine) == {}
