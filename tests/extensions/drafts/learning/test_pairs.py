"""Every demonstration by the applications: what is learned from it is proven by it, and wrong ones are refused."""

from __future__ import annotations

import pytest

from dbctl.extensions.drafts.learning.learn import RULES
from tests.extensions.drafts.learning.demonstrations import APPS, ENGINES, Pair, list_pairs, select_server

pytestmark = pytest.mark.slow

PAIRS = [
    pair for app in APPS for engine in ENGINES for pair in list_pairs(app, engine) if pair.action in RULES
]
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
            *(("pgadmin4", number) for number in (14, 15, 17, 19, 20)),
            *(("calibre-web", number) for number in (8, 16, 18)),
            *(("strapi", number) for number in (8, 9, 10, 12, 13, 26, 27, 31)),
            *(("superset", number) for number in (5, 8, 10)),
            *(("directus", number) for number in (5, 8, 11)),
        ],
        "this action alone does not show which users are admins",
    ),
}
#: Pairs that need a profile: a table of pairs of users and roles without foreign keys is found by no name.
UNKNOWN = [("ghost", 5), ("ghost", 6)]
#: The actions of administration, which one profile of each application learns.
ADMINISTRATION = ("create-user", "set-password", "deactivate", "delete-user")

#: Applications of which a profile from nothing but the first demonstration of each action is proven.
PROVEN = ("mlflow", "label-studio")


def is_wrong(pair: Pair) -> bool:
    return pair.wrong or pair.before == pair.after


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
    failed = prove(profile, pair.engine)
    if (pair.app, pair.number) not in DIFFERENT:
        assert failed == {}


@pytest.mark.parametrize(
    ("app", "engine"), [(app, engine) for app in PROVEN for engine in ENGINES if list_pairs(app, engine)]
)
def test_profile_learns_administration_from_first_demonstrations(learn, prove, tmp_path, app, engine):
    profile, pairs = tmp_path / "app.toml", list_pairs(app, engine)
    users = next(pair.users for pair in pairs)
    for action in [action for action in ADMINISTRATION if action in RULES]:
        first = next(
            (pair for pair in pairs if (pair.action, pair.users) == (action, users) and not is_wrong(pair)),
            None,
        )
        if first:
            learn(app, first.number, profile, engine=engine)
    assert prove(profile, engine) == {}
