"""The launcher's database: generated games with data and tags, and playlists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache
from random import Random

from dbctl.demo.flashpoint_web.games_schema import ARCHIVE, ARCHIVE_INDEXES
from dbctl.demo.flashpoint_web.sample import Sample, format_time, insert, run_scripts
from dbctl.demo.random import Progress, batches, happens, rng_for, uuid4, zipf_rank
from dbctl.demo.words import ADJECTIVES, NAMES, NOUNS, SURNAMES
from dbctl.engines.contract import Writable
from dbctl.model import Struct

#: The columns that the sample fills, in the order of the values of its rows.
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

#: The platforms, with their percentage of the games and the suffix of their files.
PLATFORMS = {
    "Flash": (68, "swf"), "HTML5": (10, "html"), "Shockwave": (7, "dcr"), "Java": (4, "jar"), "Unity": (4, "unity3d"),
    "Silverlight": (2, "xap"), "3D Groove GX": (2, "x3d"), "ActiveX": (1, "cab"), "Authorware": (1, "aam"), "VRML": (1, "wrl"),
}  # fmt: skip
#: The category of each tag, the most common tags first.
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


class Game(Struct, frozen=True, kw_only=True):
    """One generated game: its row, the rows of its data, and the numbers of its tags."""

    row: Sequence[object]
    data: Sequence[Sequence[object]]
    tags: Sequence[int]


def game_name(sample: Sample, number: int) -> tuple[str, str]:
    """Return id and title of the game with this number, from 0, without generating its other values."""
    rng = rng_for(sample.seed, "game", number)
    return uuid4(rng), _title(rng)


def fill_archive(db: Writable, sample: Sample, progress: Progress | None) -> dict[str, int]:
    """Create and fill the launcher's database with the documented schema; return the numbers of rows."""
    run_scripts(db, ARCHIVE)
    modified = format_time(sample.ago(30))
    playlist_numbers = range(min(24, sample.games))
    link_count = data_count = 0
    with db.transaction():
        insert(
            db,
            COLUMNS,
            "platform",
            ((name, f"Runs {end} files.", modified) for name, (_, end) in PLATFORMS.items()),
        )
        insert(db, COLUMNS, "tag", ((name, category, "", modified) for name, category in TAGS.items()))
        for batch in batches((_game(sample, number) for number in range(sample.games)), progress):
            insert(db, COLUMNS, "game", (game.row for game in batch))
            data_count += insert(db, COLUMNS, "game_data", (row for game in batch for row in game.data))
            link_count += insert(
                db, COLUMNS, "game_tags_tag", ((game.row[0], tag) for game in batch for tag in game.tags)
            )
        insert(db, COLUMNS, "playlist", (_playlist(sample, number) for number in playlist_numbers))
        insert(
            db,
            COLUMNS,
            "playlist_game",
            (row for number in playlist_numbers for row in _playlist_games(sample, number)),
        )
    run_scripts(db, ARCHIVE_INDEXES)
    return {
        "games": sample.games,
        "data_entries": data_count,
        "tag_links": link_count,
        "playlists": len(playlist_numbers),
    }


def _title(rng: Random) -> str:
    a, b = rng.choice(ADJECTIVES), rng.choice(ADJECTIVES)
    n, m = rng.choice(NOUNS), rng.choice(NOUNS)
    return rng.choice(TITLES).format(a=a, b=b, n=n, m=m, number=rng.randint(2, 5))


@cache
def _studio(seed: int, rank: int) -> str:
    rng = rng_for(seed, "studio", rank)
    return f"{rng.choice((*NOUNS, *map(str.title, SURNAMES)))} {rng.choice(STUDIOS)}"


def _game(sample: Sample, number: int) -> Game:
    rng = rng_for(sample.seed, "game", number)
    key, title = uuid4(rng), _title(rng)  # in this order, as in game_name
    platform = rng.choices(tuple(PLATFORMS), [share for share, _ in PLATFORMS.values()])[0]
    studio = _studio(sample.seed, zipf_rank(rng, 900))
    site = studio.lower().replace(" ", "-")
    is_extreme = happens(rng, 0.03)
    tag_indexes = {zipf_rank(rng, len(COMMON_TAGS)) for _ in range(rng.randint(1, 6))}
    names = [COMMON_TAGS[index] for index in sorted(tag_indexes)] + (
        [rng.choice(EXTREME_TAGS)] if is_extreme else []
    )
    added = sample.ago(rng.uniform(1, 2600))
    command = f"http://www.{site}.example/{number}/{title.lower().replace(' ', '-').replace(':', '')}.{PLATFORMS[platform][1]}"
    is_animation = happens(rng, 0.12)
    parent = game_name(sample, rng.randrange(number))[0] if number and happens(rng, 0.015) else None
    is_broken = happens(rng, 0.01)
    row = (
        key,
        parent,
        title,
        _title(rng) if happens(rng, 0.06) else "",
        f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}" if happens(rng, 0.15) else "",
        studio if happens(rng, 0.93) else "",
        _studio(sample.seed, zipf_rank(rng, 300)) if happens(rng, 0.6) else "",
        platform,
        platform if happens(rng, 0.98) else f"{platform}; HTML5",
        list(PLATFORMS).index(platform) + 1,
        ""
        if is_animation
        else rng.choices(("Single Player", "Multiplayer", "Cooperative; Multiplayer"), (90, 7, 3))[0],
        "Broken"
        if is_broken
        else rng.choices(("Playable", "Partial", "Hacked", "Playable; Partial"), (88, 7, 3, 2))[0],
        int(is_broken),
        int(is_extreme),
        "" if happens(rng, 0.9) else "The sound starts only after the first click.",
        "; ".join(names),
        f"https://www.{site}.example/",
        "FPSoftware\\startFlash.bat"
        if platform == "Flash"
        else f"FPSoftware\\start{platform.replace(' ', '')}.bat",
        command,
        _release_date(rng),
        rng.choice(("", "", "", "1.0", "1.1", "2.0.3")),
        f"{title} by {studio}: find the {rng.choice(NOUNS).lower()} before the {rng.choice(NOUNS).lower()} does.",
        rng.choices([language for language, _ in LANGUAGES], [share for _, share in LANGUAGES])[0],
        "theatre" if is_animation else "arcade",
        "" if happens(rng, 0.05) else title.lower().removeprefix("the "),
        format_time(added),
        format_time(added + (sample.at - added) * rng.random() ** 2),
        rng.choices((0, 1, 2), (2, 8, 90))[0],
        f"Logos/{key[:2]}/{key[2:4]}/{key}.png",
        f"Screenshots/{key[:2]}/{key[2:4]}/{key}.png",
    )
    data = tuple(_data(rng, key, command, added, index) for index in range(1 + (happens(rng, 0.1))))
    return Game(row=row, data=data, tags=tuple(TAG_NUMBERS[name] for name in names))


def _release_date(rng: Random) -> str:
    year, month, day = 1996 + int(26 * rng.betavariate(3, 3)), rng.randint(1, 12), rng.randint(1, 28)
    # Some dates consist only of year and month, or only of the year, or are empty.
    return rng.choices(
        (f"{year}-{month:02d}-{day:02d}", f"{year}-{month:02d}", f"{year}", ""), (80, 6, 8, 6)
    )[0]


def _data(rng: Random, key: str, command: str, added: datetime, index: int) -> tuple[object, ...]:
    present = rng.choices((None, 0, 1), (6, 64, 30))[0]
    stored = added + timedelta(minutes=index)
    return (
        key,
        f"Data {index + 1}" if index else "Data",
        format_time(stored),
        f"{rng.getrandbits(256):064x}",
        f"{rng.getrandbits(32):08x}",
        present,
        None if present is None else f"Games/{key}-{int(stored.timestamp())}000.zip",
        int(20_000 * 1.0005 ** rng.randrange(16_000)),
        None if happens(rng, 0.95) else "-fullscreen",
        command if happens(rng, 0.9) else None,
    )


def _playlist(sample: Sample, number: int) -> tuple[object, ...]:
    rng = rng_for(sample.seed, "playlist", number)
    return (
        uuid4(rng),
        f"{rng.choice(ADJECTIVES)} {rng.choice(tuple(TAGS))} Games",
        rng.choice(("", "What the curators come back to.", "In the order in which they appeared.")),
        rng.choice(NAMES),
        "theatre" if happens(rng, 0.12) else "arcade",
        None,
        format_time(sample.ago(rng.uniform(1, 900))),
    )


def _playlist_games(sample: Sample, number: int) -> Iterator[tuple[object, ...]]:
    playlist = _playlist(sample, number)[0]
    rng = rng_for(sample.seed, "playlist games", number)
    members = {rng.randrange(sample.games): None for _ in range(rng.randint(3, 40))}
    for order, member in enumerate(members, 1):
        yield playlist, game_name(sample, member)[0], order, "" if happens(rng, 0.8) else "A favorite."
