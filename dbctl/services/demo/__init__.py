"""Sample deployments to try dbctl on: invented rows that are the same for the same seed and moment."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from itertools import islice
from pathlib import Path
from random import Random
from typing import TypeVar

from dbctl.errors import NotSupportedError, ValueInvalidError
from dbctl.model import Value

T = TypeVar("T")

#: Told how many more things were made since it was told last; in all they are as many as were asked for.
Progress = Callable[[int], None]

#: Profiles that have a sample, and the module whose ``build`` makes it.
SAMPLES = {"flashpoint-web": "dbctl.services.demo.flashpoint_web"}

#: Rows made at once: few enough for constant memory, many enough that one statement carries them.
BATCH = 2_000


class Account(Value, frozen=True, kw_only=True):
    """A user of the sample that a person can sign in as. The password is public: it guards nothing."""

    login: str
    password: str
    role: str


class DemoBuilt(Value, frozen=True, kw_only=True):
    """Answer of ``demo``."""

    profile: str
    directory: Path
    databases: Mapping[str, Path]
    rows: Mapping[str, int]  #: what was made, in the app's own words: games, users, plays…
    bytes: int  #: of all databases together
    seconds: float
    accounts: Sequence[Account]
    password_of_others: str  #: of every user who is no account of these; as public as theirs


def build(
    directory: Path,
    *,
    profile: str = "flashpoint-web",
    games: int = 2_000,
    users: int = 50,
    plays: int = 5_000,
    seed: int = 0,
    at: datetime | None = None,
    progress: Progress | None = None,
) -> DemoBuilt:
    """Make the sample deployment of ``profile`` below ``directory``, which is made where it is missing.

    Args:
        directory: where the app would be installed.
        profile: whose sample.
        games: how many; 200,000 are what a real archive holds.
        users: how many, the named accounts included, which are made in any case.
        plays: how many play sessions.
        seed: another one gives other rows.
        at: the moment at which the sample is "now"; the present one unless told.
        progress: told of games, users and plays as they are made.

    Raises:
        NotSupportedError: the profile has no sample.
        ValueInvalidError: a number is negative.
        FileExistsAlreadyError: a database stands there already; nothing was changed.
        FileFailedError: the directory cannot be made or written.
    """
    if profile not in SAMPLES:
        raise NotSupportedError(
            what=f"a sample of {profile}",
            by="dbctl demo",
            instead=f"It has samples of: {', '.join(SAMPLES)}.",
        )
    for what, count in (("games", games), ("users", users), ("plays", plays)):
        if count < 0:
            raise ValueInvalidError(what=f"the number of {what}", value=count, reason="it is negative")
    module = import_module(SAMPLES[profile])
    built: DemoBuilt = module.build(
        directory, games=games, users=users, plays=plays, seed=seed, at=at, progress=progress
    )
    return built


# What every sample is made with -------------------------------------------------------------------------------


def dice(seed: int, *key: str | int) -> Random:
    """Return the chance that belongs to one invented thing: it does not depend on what was made before."""
    return Random("/".join(map(str, (seed, *key))))  # noqa: S311 - invented, and meant to be the same again


def uuid4(chance: Random) -> str:
    """Return a UUID of version 4."""
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def likely(chance: Random, share: float) -> bool:
    """Return whether something happens that happens in this share of cases, from 0 to 1."""
    return chance.random() < share


def ranked(chance: Random, count: int) -> int:
    """Return a rank from 0 to ``count`` - 1, each about as likely as 1 / (rank + 1): a few are met all the time."""
    return min(int((count + 1) ** chance.random()) - 1, count - 1)


def spread(rank: int, count: int) -> int:
    """Return which of ``count`` things holds a rank, so that the first ones made are not the most popular ones."""
    return (rank * 1_000_003 + 17) % count


def batches(things: Iterable[T], progress: Progress | None = None) -> Iterator[list[T]]:
    """Yield the things, ``BATCH`` at a time, and tell ``progress`` once a batch has been dealt with."""
    rest = iter(things)
    while batch := list(islice(rest, BATCH)):
        yield batch
        if progress is not None:
            progress(len(batch))


ADJECTIVES = (
    "Amber", "Ancient", "Azure", "Bitter", "Bold", "Brave", "Bright", "Broken", "Calm", "Clever", "Cobalt", "Cosmic",
    "Crimson", "Crooked", "Curious", "Dark", "Distant", "Dusty", "Electric", "Endless", "Faded", "Fearless", "Fierce",
    "Final", "Flying", "Forgotten", "Frozen", "Gentle", "Giant", "Golden", "Grumpy", "Hasty", "Haunted", "Hidden",
    "Hollow", "Hungry", "Infinite", "Iron", "Jolly", "Last", "Lazy", "Little", "Lonely", "Lost", "Lucky", "Lunar",
    "Mad", "Magic", "Mighty", "Misty", "Neon", "Nimble", "Odd", "Paper", "Patient", "Pixel", "Polar", "Proud", "Quiet",
    "Rapid", "Restless", "Royal", "Rusty", "Sandy", "Secret", "Shy", "Silent", "Silver", "Sleepy", "Sly", "Small",
    "Solar", "Steady", "Stormy", "Strange", "Sunken", "Super", "Swift", "Tiny", "Turbo", "Velvet", "Wandering", "Wicked",
    "Wild", "Winding", "Wise", "Wooden", "Young", "Zany",
)  # fmt: skip

NOUNS = (
    "Acorn", "Anchor", "Archer", "Badger", "Balloon", "Beacon", "Beetle", "Bridge", "Cactus", "Castle", "Cavern", "Cipher",
    "Clock", "Comet", "Compass", "Crane", "Crown", "Desert", "Diver", "Dragon", "Drum", "Engine", "Falcon", "Ferry", "Forest",
    "Fortress", "Fox", "Galaxy", "Garden", "Ghost", "Glacier", "Goblin", "Harbor", "Heron", "Island", "Jester", "Jungle",
    "Kettle", "Kingdom", "Kite", "Knight", "Labyrinth", "Lantern", "Lighthouse", "Lizard", "Machine", "Magnet", "Mansion",
    "Marble", "Maze", "Meadow", "Meteor", "Mill", "Mirror", "Moon", "Mountain", "Mouse", "Ninja", "Ocean", "Orchard", "Otter",
    "Owl", "Palace", "Penguin", "Pirate", "Planet", "Puzzle", "Rabbit", "Racer", "Raft", "Railway", "Raven", "River", "Robot",
    "Rocket", "Sailor", "Shadow", "Snail", "Sparrow", "Station", "Submarine", "Temple", "Tower", "Train", "Traveler", "Turtle",
    "Valley", "Volcano", "Wagon", "Whale", "Willow", "Window", "Wizard", "Wolf", "Workshop", "Yeti",
)  # fmt: skip

NAMES = (
    "ada", "aiko", "alba", "amir", "anouk", "ansel", "ayla", "benno", "bruno", "cara", "cleo", "dario", "della", "edda",
    "elio", "emre", "enya", "farah", "finn", "gita", "greta", "hana", "hugo", "ida", "ilse", "imran", "ivo", "jana",
    "jonas", "juno", "kaya", "kemal", "lars", "leila", "lena", "lino", "luz", "mads", "malik", "mara", "marek", "mila",
    "nadia", "nils", "noor", "odin", "olga", "otto", "petra", "quinn", "rafa", "rhea", "runa", "samir", "selma", "sven",
    "tara", "teo", "tilda", "uma", "vera", "viggo", "wanda", "xenia", "yara", "yusuf", "zeno", "zoe",
)  # fmt: skip

SURNAMES = (
    "abbott", "adler", "bauer", "becker", "brook", "castle", "clay", "dale", "ember", "falk", "fern", "field", "forge",
    "frost", "gale", "glen", "grove", "hale", "heath", "hill", "holm", "kerr", "lake", "lane", "lowe", "marsh", "meyer",
    "moss", "north", "oakes", "park", "pike", "quill", "reed", "rivera", "rowe", "sato", "shaw", "stone", "thorn",
    "vale", "voss", "ward", "west", "wood", "york",
)  # fmt: skip
