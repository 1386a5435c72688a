"""The launcher's database: invented games, their data and tags, and playlists of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache
from random import Random

from dbctl.demo.flashpoint_web.games_schema import ARCHIVE, ARCHIVE_INDEXES
from dbctl.demo.flashpoint_web.sample import Sample, insert, run, stamp
from dbctl.demo.random import Progress, batches, dice, likely, ranked, uuid4
from dbctl.demo.words import ADJECTIVES, NAMES, NOUNS, SURNAMES
from dbctl.engines.contract import Writable
from dbctl.model import Value

#: The columns that the sample fills, in the order in which its rows are made.
COLUMNS = {
    "platform": "name description dateModified",
    "tag": "name category description dateModified",
    "game": "id parentGameId title alternateTitles series developer publisher platformName platformsStr platformId playMode"
    " status broken extreme notes tagsStr source applicationPath launchCommand releaseDate version originalDescription"
    " language library orderTitle dateAdded dateModified archiveState logoPath screenshotPath",
    "game_data": "gameId title dateAdded sha256 crc32 presentOnDisk path size parameters launchCommand",
    "game_tags_tag": "gameId tagId",
    "playlist": "id title description author library icon dateModified",
    "playlist_game": "playlistId gameId order notes",
}

#: Platform to how many of a hundred games run on it, and what their files end in.
PLATFORMS = {
    "Flash": (68, "swf"), "HTML5": (10, "html"), "Shockwave": (7, "dcr"), "Java": (4, "jar"), "Unity": (4, "unity3d"),
    "Silverlight": (2, "xap"), "3D Groove GX": (2, "x3d"), "ActiveX": (1, "cab"), "Authorware": (1, "aam"), "VRML": (1, "wrl"),
}  # fmt: skip
#: Tag to category, the most common ones first.
TAGS = {
    "Action": "genre", "Puzzle": "genre", "Arcade": "genre", "Adventure": "genre", "Shooter": "genre", "Platformer": "genre",
    "Sports": "genre", "Simulation": "genre", "Racing": "genre", "Point and Click": "genre", "Toy": "genre", "Educational": "genre",
    "Strategy": "genre", "Dress Up": "genre", "Fighting": "genre", "Escape the Room": "genre", "Rhythm": "genre", "Quiz": "genre",
    "Score-Attack": "play", "Side-Scrolling": "view", "Top-Down": "view", "Physics": "play", "Timed": "play", "Cooking": "theme",
    "Space": "theme", "Animals": "theme", "Fantasy": "theme", "Horror": "theme", "Winter": "theme", "Pirates": "theme",
    "Robots": "theme", "Ninja": "theme", "Medieval": "theme", "Underwater": "theme", "Tower Defense": "play", "Turn-Based": "play",
    "Stealth": "play", "Idle": "play", "Word": "play", "Cards": "play", "Chess": "play", "Isometric": "view", "First-Person": "view",
    "Pixel Art": "style", "Hand-Drawn": "style", "Stick Figures": "style", "Prerendered": "style", "Advergame": "origin",
    "Jam Entry": "origin", "Demo": "origin", "Cursed": "warning", "Violence": "warning", "Gore": "warning",
}  # fmt: skip
TAG_NUMBERS = {name: number for number, name in enumerate(TAGS, 1)}
EXTREME_TAGS = ("Violence", "Gore")
COMMON_TAGS = tuple(name for name in TAGS if name not in EXTREME_TAGS)
STUDIOS = ("Games", "Studio", "Interactive", "Works", "Soft", "Media", "Arts", "Brothers", "Lab", "Online")
TITLES = (
    "{a} {n}",
    "The {a} {n}",
    "{n} {m}",
    "{a} {n} {number}",
    "{n}: The {b} {m}",
    "{n} vs. {m}",
    "{a} {n} and the {m}",
    "{n}'s {b} {m}",
)
LANGUAGES = (("en", 80), ("ja", 6), ("de", 4), ("fr", 3), ("es", 3), ("en; fr", 2), ("ko", 1), ("pt-BR", 1))


class Game(Value, frozen=True, kw_only=True):
    """One invented game: its row, those of its data, and the numbers of its tags."""

    row: Sequence[object]
    data: Sequence[Sequence[object]]
    tags: Sequence[int]


def game_name(sample: Sample, number: int) -> tuple[str, str]:
    """Return id and title of the game with this number, from 0, without making the rest of it."""
    chance = dice(sample.seed, "game", number)
    return uuid4(chance), _title(chance)


def fill_archive(db: Writable, sample: Sample, progress: Progress | None) -> dict[str, int]:
    """Make and fill the launcher's database in the document's schema; return what was made."""
    run(db, ARCHIVE)
    changed = stamp(sample.ago(30))
    lists = range(min(24, sample.games))
    links = data = 0
    with db.transaction():
        insert(
            db,
            COLUMNS,
            "platform",
            ((name, f"Runs {end} files.", changed) for name, (_, end) in PLATFORMS.items()),
        )
        insert(db, COLUMNS, "tag", ((name, category, "", changed) for name, category in TAGS.items()))
        for batch in batches((_game(sample, number) for number in range(sample.games)), progress):
            insert(db, COLUMNS, "game", (game.row for game in batch))
            data += insert(db, COLUMNS, "game_data", (row for game in batch for row in game.data))
            links += insert(
                db, COLUMNS, "game_tags_tag", ((game.row[0], tag) for game in batch for tag in game.tags)
            )
        insert(db, COLUMNS, "playlist", (_playlist(sample, number) for number in lists))
        insert(
            db, COLUMNS, "playlist_game", (row for number in lists for row in _playlist_games(sample, number))
        )
    run(db, ARCHIVE_INDEXES)
    return {"games": sample.games, "data_entries": data, "tag_links": links, "playlists": len(lists)}


def _title(chance: Random) -> str:
    a, b = chance.choice(ADJECTIVES), chance.choice(ADJECTIVES)
    n, m = chance.choice(NOUNS), chance.choice(NOUNS)
    return chance.choice(TITLES).format(a=a, b=b, n=n, m=m, number=chance.randint(2, 5))


@cache
def _studio(seed: int, rank: int) -> str:
    chance = dice(seed, "studio", rank)
    return f"{chance.choice((*NOUNS, *map(str.title, SURNAMES)))} {chance.choice(STUDIOS)}"


def _game(sample: Sample, number: int) -> Game:
    chance = dice(sample.seed, "game", number)
    key, title = uuid4(chance), _title(chance)  # in this order: game_name draws the same two
    platform = chance.choices(tuple(PLATFORMS), [share for share, _ in PLATFORMS.values()])[0]
    studio = _studio(sample.seed, ranked(chance, 900))
    site = studio.lower().replace(" ", "-")
    extreme = likely(chance, 0.03)
    picked = {ranked(chance, len(COMMON_TAGS)) for _ in range(chance.randint(1, 6))}
    names = [COMMON_TAGS[place] for place in sorted(picked)] + (
        [chance.choice(EXTREME_TAGS)] if extreme else []
    )
    added = sample.ago(chance.uniform(1, 2600))
    command = f"http://www.{site}.example/{number}/{title.lower().replace(' ', '-').replace(':', '')}.{PLATFORMS[platform][1]}"
    film = likely(chance, 0.12)
    parent = game_name(sample, chance.randrange(number))[0] if number and likely(chance, 0.015) else None
    broken = likely(chance, 0.01)
    row = (
        key,
        parent,
        title,
        _title(chance) if likely(chance, 0.06) else "",
        f"{chance.choice(ADJECTIVES)} {chance.choice(NOUNS)}" if likely(chance, 0.15) else "",
        studio if likely(chance, 0.93) else "",
        _studio(sample.seed, ranked(chance, 300)) if likely(chance, 0.6) else "",
        platform,
        platform if likely(chance, 0.98) else f"{platform}; HTML5",
        list(PLATFORMS).index(platform) + 1,
        ""
        if film
        else chance.choices(("Single Player", "Multiplayer", "Cooperative; Multiplayer"), (90, 7, 3))[0],
        "Broken"
        if broken
        else chance.choices(("Playable", "Partial", "Hacked", "Playable; Partial"), (88, 7, 3, 2))[0],
        int(broken),
        int(extreme),
        "" if likely(chance, 0.9) else "The sound starts only after the first click.",
        "; ".join(names),
        f"https://www.{site}.example/",
        "FPSoftware\\startFlash.bat"
        if platform == "Flash"
        else f"FPSoftware\\start{platform.replace(' ', '')}.bat",
        command,
        _release_date(chance),
        chance.choice(("", "", "", "1.0", "1.1", "2.0.3")),
        f"{title} by {studio}: find the {chance.choice(NOUNS).lower()} before the {chance.choice(NOUNS).lower()} does.",
        chance.choices([language for language, _ in LANGUAGES], [share for _, share in LANGUAGES])[0],
        "theatre" if film else "arcade",
        "" if likely(chance, 0.05) else title.lower().removeprefix("the "),
        stamp(added),
        stamp(added + (sample.at - added) * chance.random() ** 2),
        chance.choices((0, 1, 2), (2, 8, 90))[0],
        f"Logos/{key[:2]}/{key[2:4]}/{key}.png",
        f"Screenshots/{key[:2]}/{key[2:4]}/{key}.png",
    )
    data = tuple(_data(chance, key, command, added, place) for place in range(1 + (likely(chance, 0.1))))
    return Game(row=row, data=data, tags=tuple(TAG_NUMBERS[name] for name in names))


def _release_date(chance: Random) -> str:
    year, month, day = 1996 + int(26 * chance.betavariate(3, 3)), chance.randint(1, 12), chance.randint(1, 28)
    # Not every date is complete: some have only a month, a year, or nothing.
    return chance.choices(
        (f"{year}-{month:02d}-{day:02d}", f"{year}-{month:02d}", f"{year}", ""), (80, 6, 8, 6)
    )[0]


def _data(chance: Random, key: str, command: str, added: datetime, place: int) -> tuple[object, ...]:
    present = chance.choices((None, 0, 1), (6, 64, 30))[0]
    stored = added + timedelta(minutes=place)
    return (
        key,
        f"Data {place + 1}" if place else "Data",
        stamp(stored),
        f"{chance.getrandbits(256):064x}",
        f"{chance.getrandbits(32):08x}",
        present,
        None if present is None else f"Games/{key}-{int(stored.timestamp())}000.zip",
        int(20_000 * 1.0005 ** chance.randrange(16_000)),
        None if likely(chance, 0.95) else "-fullscreen",
        command if likely(chance, 0.9) else None,
    )


def _playlist(sample: Sample, number: int) -> tuple[object, ...]:
    chance = dice(sample.seed, "playlist", number)
    return (
        uuid4(chance),
        f"{chance.choice(ADJECTIVES)} {chance.choice(tuple(TAGS))} Games",
        chance.choice(("", "What the curators come back to.", "In the order in which they appeared.")),
        chance.choice(NAMES),
        "theatre" if likely(chance, 0.12) else "arcade",
        None,
        stamp(sample.ago(chance.uniform(1, 900))),
    )


def _playlist_games(sample: Sample, number: int) -> Iterator[tuple[object, ...]]:
    playlist = _playlist(sample, number)[0]
    chance = dice(sample.seed, "playlist games", number)
    members = {chance.randrange(sample.games): None for _ in range(chance.randint(3, 40))}
    for order, member in enumerate(members, 1):
        yield playlist, game_name(sample, member)[0], order, "" if likely(chance, 0.8) else "A favorite."
