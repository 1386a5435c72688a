"""A sample Flashpoint Web: an archive of invented games, and users who have played them for half a year."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import cast

from dbctl.engines.base import Condition, Migrates, Writable
from dbctl.engines.registry import open_for_writing
from dbctl.errors import FileExistsAlreadyError, FileFailedError, MigrationsMissingError
from dbctl.model import Value, now
from dbctl.profiles.codecs import TIMES
from dbctl.profiles.loader import load
from dbctl.profiles.model import Profile
from dbctl.services.demo import (
    ADJECTIVES,
    NAMES,
    NOUNS,
    SURNAMES,
    Account,
    DemoBuilt,
    Progress,
    batches,
    dice,
    likely,
    ranked,
    spread,
    uuid4,
)
from dbctl.services.migration_files import read, shipped_path
from dbctl.services.migration_ledger import Track
from dbctl.services.migration_run import apply_all
from dbctl.url import Url

#: What messages call the app while it is made.
TARGET = "demo"
#: Where the app and the launcher keep their databases, below the directory of each.
PLACES = {"user": Path("backend/user.db"), "flashpoint": Path("Data/flashpoint.sqlite")}

ACCOUNTS = (
    Account(login="admin", password="sample-admin", role="admin"),  # noqa: S106 - public, guards nothing
    Account(login="morgan", password="sample-moderator", role="moderator"),  # noqa: S106 - as above
    Account(login="demo", password="sample-user", role="user"),  # noqa: S106 - as above
    Account(login="visitor", password="sample-guest", role="guest"),  # noqa: S106 - as above
)
#: All other users have this password, and one hash between them: 500 of their own would take half a minute.
COMMON_PASSWORD = "sample-password"  # noqa: S105 - as above
#: bcrypt cost of the named accounts (the app's own), and of the hash that all others share.
COST, COMMON_COST = 10, 4

#: The first three are built in; moderators are the sample's own, so that there is a role to change and remove.
ROLES = {"admin": 1, "user": 2, "guest": 3, "moderator": 4}
MODERATOR = (
    "games.read",
    "games.play",
    "playlists.read",
    "playlists.update",
    "playlists.delete",
    "users.read",
    "activities.read",
)

#: Days of play history; a veteran's account is older than all of it.
HISTORY = 180
#: Days after which the app takes a session that never ended for abandoned.
ABANDONED_AFTER = 1
#: Which part of the users never signed in, from the newest account backwards; the next newest is locked out.
NEWCOMERS = 0.12


def build(
    directory: Path,
    *,
    games: int,
    users: int,
    plays: int,
    seed: int,
    at: datetime | None,
    progress: Progress | None,
) -> DemoBuilt:
    """Make ``backend/user.db`` and ``Data/flashpoint.sqlite``; see ``dbctl.services.demo.build``."""
    began = time.monotonic()
    places = {name: directory / place for name, place in PLACES.items()}
    for path in places.values():
        if path.exists():
            raise FileExistsAlreadyError(path=path, instead="Choose an empty directory for the sample.")
    sample = Sample(
        games=games, users=max(users, len(ACCOUNTS)), plays=plays if games else 0, seed=seed, at=at or now()
    )
    profile = load("flashpoint-web")
    rows: dict[str, int] = {}
    try:
        for path in places.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        # Made aside, so that a half-made database never stands where an app would open it.
        with TemporaryDirectory(prefix=".dbctl-demo-", dir=directory) as aside:
            # The app puts the launcher's database into rollback mode whenever it opens it.
            with closing(_opened(Path(aside), "flashpoint", {"journal_mode": "delete"})) as archive:
                rows |= fill_archive(archive, sample, progress)
            with closing(_opened(Path(aside), "user", profile.databases["user"].create)) as deployment:
                _migrate(profile, deployment)
                rows |= fill_users(deployment, sample, progress)
            for name, path in places.items():
                (Path(aside) / PLACES[name].name).rename(path)
    except OSError as error:
        raise FileFailedError(path=directory, reason=error.strerror or str(error)) from error
    return DemoBuilt(
        profile=profile.name,
        directory=directory,
        databases=places,
        rows=rows,
        bytes=sum(path.stat().st_size for path in places.values()),
        seconds=round(time.monotonic() - began, 3),
        accounts=ACCOUNTS,
        password_of_others=COMMON_PASSWORD,
    )


class Sample(Value, frozen=True, kw_only=True):
    """What was asked for."""

    games: int
    users: int
    plays: int
    seed: int
    at: datetime

    def ago(self, days: float) -> datetime:
        """Return the moment so many days before the sample's own."""
        return self.at - timedelta(days=days)


def _opened(directory: Path, name: str, create: Mapping[str, str]) -> Writable:
    return open_for_writing(
        Url(engine="sqlite", path=str(directory / PLACES[name].name)),
        f"{TARGET}/{name}",
        timeout=5,
        pragmas={"synchronous": "off"},  # what a power cut takes is made again
        create=create,
    )


def _run(db: Writable, *scripts: str) -> None:
    engine = cast("Migrates", db)
    for script in scripts:
        with engine.schema_transaction():
            for _line, sql in engine.split(script).statements:
                engine.run_statement(sql)


def _insert(db: Writable, table: str, rows: Iterable[Sequence[object]]) -> int:
    return db.insert_many(table, COLUMNS[table].split(), rows)


def _migrate(profile: Profile, db: Writable) -> None:
    told = profile.databases["user"].migrations
    if told is None:
        raise MigrationsMissingError(target=db.target, path=profile.name)
    folder = read(shipped_path(profile.name, "user"), own=False)
    apply_all(Track(app=TARGET, database="user", profile=profile, told=told, folder=folder), db)


def _stamp(moment: datetime) -> str:
    return str(TIMES["iso-ms"](moment))


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
    "role_permissions": "role_id permission_id created_at",
    "users": "id username email password_hash role_id is_active created_at updated_at last_login_at",
    "refresh_tokens": "user_id token expires_at created_at revoked_at",
    "login_attempts": "username ip_address success attempted_at",
    "user_settings": "user_id setting_key setting_value created_at updated_at",
    "user_game_plays": "user_id game_id game_title started_at ended_at duration_seconds session_id",
    "activity_logs": "user_id username action resource resource_id details ip_address user_agent created_at",
}


# The archive -------------------------------------------------------------------------------------------------------

ARCHIVE = """
CREATE TABLE platform (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, description TEXT, dateModified TEXT
);
CREATE TABLE tag (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, category TEXT, description TEXT, dateModified TEXT
);
CREATE TABLE game (
  id TEXT NOT NULL PRIMARY KEY, parentGameId TEXT REFERENCES game (id), title TEXT NOT NULL, alternateTitles TEXT,
  series TEXT, developer TEXT, publisher TEXT, platformName TEXT, platformsStr TEXT,
  platformId INTEGER REFERENCES platform (id), playMode TEXT, status TEXT, broken BOOLEAN, extreme BOOLEAN, notes TEXT,
  tagsStr TEXT, source TEXT, applicationPath TEXT, launchCommand TEXT, releaseDate TEXT, version TEXT,
  originalDescription TEXT, language TEXT, library TEXT NOT NULL, orderTitle TEXT NOT NULL, dateAdded TEXT,
  dateModified TEXT, archiveState INTEGER, logoPath TEXT, screenshotPath TEXT
);
CREATE TABLE game_data (
  id INTEGER PRIMARY KEY AUTOINCREMENT, gameId TEXT NOT NULL REFERENCES game (id), title TEXT, dateAdded TEXT,
  sha256 TEXT, crc32 TEXT, presentOnDisk INTEGER, path TEXT, size INTEGER, parameters TEXT, launchCommand TEXT
);
CREATE TABLE game_tags_tag (
  id INTEGER PRIMARY KEY AUTOINCREMENT, gameId TEXT NOT NULL REFERENCES game (id),
  tagId INTEGER NOT NULL REFERENCES tag (id)
);
CREATE TABLE playlist (
  id TEXT NOT NULL PRIMARY KEY, title TEXT NOT NULL, description TEXT, author TEXT, library TEXT, icon TEXT,
  dateModified TEXT
);
CREATE TABLE playlist_game (
  id INTEGER PRIMARY KEY AUTOINCREMENT, playlistId TEXT NOT NULL REFERENCES playlist (id),
  gameId TEXT NOT NULL REFERENCES game (id), "order" INTEGER, notes TEXT
);
"""

#: Made once the rows stand: sorting them is several times faster than inserting each in its place.
ARCHIVE_INDEXES = """
CREATE UNIQUE INDEX idx_platform_name ON platform (name);
CREATE UNIQUE INDEX idx_tag_name ON tag (name);
CREATE INDEX idx_tag_category ON tag (category);
CREATE INDEX idx_game_platformName ON game (platformName);
CREATE INDEX idx_game_library ON game (library);
CREATE INDEX idx_game_title ON game (title);
CREATE INDEX idx_game_orderTitle ON game (orderTitle);
CREATE INDEX idx_game_developer ON game (developer);
CREATE INDEX idx_game_publisher ON game (publisher);
CREATE INDEX idx_game_data_gameId ON game_data (gameId);
CREATE INDEX idx_game_data_presentOnDisk ON game_data (presentOnDisk);
CREATE INDEX idx_game_tags_tag_gameId ON game_tags_tag (gameId);
CREATE INDEX idx_game_tags_tag_tagId ON game_tags_tag (tagId);
CREATE UNIQUE INDEX idx_game_tags_tag_gameId_tagId ON game_tags_tag (gameId, tagId);
CREATE INDEX idx_playlist_title ON playlist (title);
CREATE INDEX idx_playlist_library ON playlist (library);
CREATE INDEX idx_playlist_game_playlistId ON playlist_game (playlistId);
CREATE INDEX idx_playlist_game_gameId ON playlist_game (gameId);
CREATE INDEX idx_playlist_game_order ON playlist_game ("order");
"""

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
    _run(db, ARCHIVE)
    changed = _stamp(sample.ago(30))
    lists = range(min(24, sample.games))
    links = data = 0
    with db.transaction():
        _insert(
            db, "platform", ((name, f"Runs {end} files.", changed) for name, (_, end) in PLATFORMS.items())
        )
        _insert(db, "tag", ((name, category, "", changed) for name, category in TAGS.items()))
        for batch in batches((_game(sample, number) for number in range(sample.games)), progress):
            _insert(db, "game", (game.row for game in batch))
            data += _insert(db, "game_data", (row for game in batch for row in game.data))
            links += _insert(db, "game_tags_tag", ((game.row[0], tag) for game in batch for tag in game.tags))
        _insert(db, "playlist", (_playlist(sample, number) for number in lists))
        _insert(db, "playlist_game", (row for number in lists for row in _playlist_games(sample, number)))
    _run(db, ARCHIVE_INDEXES)
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
        _stamp(added),
        _stamp(added + (sample.at - added) * chance.random() ** 2),
        chance.choices((0, 1, 2), (2, 8, 90))[0],
        f"Logos/{key[:2]}/{key[2:4]}/{key}.png",
        f"Screenshots/{key[:2]}/{key[2:4]}/{key}.png",
    )
    data = tuple(_data(chance, key, command, added, place) for place in range(1 + (likely(chance, 0.1))))
    return Game(row=row, data=data, tags=tuple(TAG_NUMBERS[name] for name in names))


def _release_date(chance: Random) -> str:
    year, month, day = 1996 + int(26 * chance.betavariate(3, 3)), chance.randint(1, 12), chance.randint(1, 28)
    # Nobody knows the day of everything: some have only a month, a year, or nothing.
    return chance.choices(
        (f"{year}-{month:02d}-{day:02d}", f"{year}-{month:02d}", f"{year}", ""), (80, 6, 8, 6)
    )[0]


def _data(chance: Random, key: str, command: str, added: datetime, place: int) -> tuple[object, ...]:
    present = chance.choices((None, 0, 1), (6, 64, 30))[0]
    stored = added + timedelta(minutes=place)
    return (
        key,
        f"Data {place + 1}" if place else "Data",
        _stamp(stored),
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
        _stamp(sample.ago(chance.uniform(1, 900))),
    )


def _playlist_games(sample: Sample, number: int) -> Iterator[tuple[object, ...]]:
    playlist = _playlist(sample, number)[0]
    chance = dice(sample.seed, "playlist games", number)
    members = {chance.randrange(sample.games): None for _ in range(chance.randint(3, 40))}
    for order, member in enumerate(members, 1):
        yield playlist, game_name(sample, member)[0], order, "" if likely(chance, 0.8) else "A favorite."


# The app's own database ---------------------------------------------------------------------------------------------

#: As the app counts: only sessions that have ended.
STATISTICS = """
INSERT INTO user_game_stats
  (user_id, game_id, game_title, total_plays, total_playtime_seconds, first_played_at, last_played_at)
SELECT user_id, game_id, max(game_title), count(*), sum(duration_seconds), min(started_at), max(ended_at)
FROM user_game_plays WHERE ended_at IS NOT NULL GROUP BY user_id, game_id ORDER BY user_id, game_id;

INSERT INTO user_stats
  (user_id, total_games_played, total_playtime_seconds, total_sessions, first_play_at, last_play_at, updated_at)
SELECT user_id, count(DISTINCT game_id), sum(duration_seconds), count(*), min(started_at), max(ended_at), max(ended_at)
FROM user_game_plays WHERE ended_at IS NOT NULL GROUP BY user_id ORDER BY user_id;
"""

#: How long the app keeps its log, and how many of a hundred entries are of a kind.
LOG_DAYS = 30
ACTIVITIES = {"game": 74, "login": 12, "logout": 6, "admin": 3, "failed": 4, "gone": 1}
ADMIN_WORK = (
    ("user.create", "users", "5", None),
    ("user.update", "users", "6", '{"is_active":true}'),
    ("role.update", "roles", "4", "moderators may look at the log"),
)
#: What the admin of the sample changed.
CHANGED_SETTINGS = (
    ("app", "siteName", "Sample Arcade"),
    ("auth", "maxLoginAttempts", "6"),
    ("game", "defaultVolume", "0.8"),
)
COLORS = ("blue", "green", "purple", "rose", "amber", "teal", "slate")
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
)


class Person(Value, frozen=True, kw_only=True):
    """One invented user; ids count from 1."""

    id: int
    username: str
    role: str
    active: bool
    created: datetime
    seen: datetime | None  #: when they signed in last
    plays: bool
    locked: bool
    address: str


def fill_users(db: Writable, sample: Sample, progress: Progress | None) -> dict[str, int]:
    """Fill ``user.db``, whose migrations have run; return what was made."""
    people = [_person(sample, number) for number in range(sample.users)]  # a few hundred bytes each
    with db.transaction():
        _age_defaults(db, sample)
        _add_people(db, sample, people, progress)
        tokens = _insert(db, "refresh_tokens", _tokens(sample, people))
        _insert(db, "login_attempts", _attempts(sample, people))
        _insert(db, "user_settings", _settings(sample, people))
        for batch in batches(_plays(sample, people), progress):
            _insert(db, "user_game_plays", batch)
        logged = _insert(db, "activity_logs", _activities(sample, people))
    _run(db, STATISTICS)
    return {"users": len(people), "plays": sample.plays, "tokens": tokens, "activities": logged}


def _age_defaults(db: Writable, sample: Sample) -> None:
    installed = _stamp(sample.ago(1000))
    # The migrations ran a moment ago; the sample has been there for years, and is the same whenever it is made.
    for table in ("roles", "permissions", "role_permissions"):
        db.update(table, {"created_at": installed}, [])
    for table in ("roles", "system_settings"):
        db.update(table, {"updated_at": installed}, [])
    db.insert(
        "roles",
        {
            "id": ROLES["moderator"],
            "name": "moderator",
            "description": "Looks after playlists and members",
            "priority": 70,
            "created_at": installed,
            "updated_at": installed,
        },
    )
    granted = db.select("permissions", ("id",), [Condition("name", "in", MODERATOR)])
    _insert(db, "role_permissions", ((ROLES["moderator"], key, installed) for (key,) in granted))


def _add_people(db: Writable, sample: Sample, people: Sequence[Person], progress: Progress | None) -> None:
    common = _hashed(sample, COMMON_PASSWORD, COMMON_COST)
    hashes = [_hashed(sample, account.password, COST) for account in ACCOUNTS]
    for batch in batches(people, progress):
        _insert(
            db,
            "users",
            (
                (
                    person.id,
                    person.username,
                    f"{person.username}@flashpoint.example",
                    hashes[person.id - 1] if person.id <= len(hashes) else common,
                    ROLES[person.role],
                    int(person.active),
                    _stamp(person.created),
                    _stamp(person.created),
                    _stamp(person.seen) if person.seen else None,
                )
                for person in batch
            ),
        )
    for category, key, value in CHANGED_SETTINGS:
        db.update(
            "system_settings",
            {"value": value, "updated_at": _stamp(sample.ago(40)), "updated_by": 1},
            [Condition("category", "=", category), Condition("key", "=", key)],
        )


def _hashed(sample: Sample, password: str, cost: int) -> str:
    import bcrypt  # noqa: PLC0415 - only a sample needs it here

    # A salt of the seed's instead of a random one: the same sample has the same bytes. The last of the 22 characters
    # holds two bits only, and bcrypt refuses others there.
    letters = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    salt = "".join(dice(sample.seed, "salt", password).choices(letters, k=21))
    return bcrypt.hashpw(password.encode(), f"$2b${cost:02d}${salt}O".encode()).decode()


def _person(sample: Sample, number: int) -> Person:
    chance = dice(sample.seed, "person", number)
    place = (number + 0.5) / sample.users
    named = ACCOUNTS[number] if number < len(ACCOUNTS) else None
    newcomer = named is None and place > 1 - NEWCOMERS
    locked = named is None and not newcomer and (number + 1.5) / sample.users > 1 - NEWCOMERS
    role = named.role if named else chance.choices(("user", "guest", "moderator", "admin"), (89, 7, 3, 1))[0]
    active = named is not None or locked or likely(chance, 0.93)
    # Accounts are in the order of their ids: veterans over two years, then a gap, then those who never signed in.
    age = 60 * (1 - place) / NEWCOMERS if newcomer else 200 + 700 * (1 - place)
    created = sample.ago(age)
    dormant = not active or (named is None and not locked and likely(chance, 0.15))
    seen = (
        created + timedelta(days=chance.uniform(0, 20)) if dormant else sample.ago(30 * chance.random() ** 2)
    )
    return Person(
        id=number + 1,
        username=named.login if named else f"{chance.choice(NAMES)}.{chance.choice(SURNAMES)}{number}",
        role=role,
        active=active,
        created=created,
        seen=None if newcomer else seen,
        plays=not newcomer and not dormant and role != "guest",  # guests may look, not play
        locked=locked,
        address=f"198.51.100.{chance.randrange(1, 255)}",
    )


def _tokens(sample: Sample, people: Iterable[Person]) -> Iterator[tuple[object, ...]]:
    for person in people:
        chance = dice(sample.seed, "tokens", person.id)
        if person.seen is None:
            continue
        # A token is used once: each sign-in after the first revoked the one before it; the oldest simply expired.
        issued = [person.seen - timedelta(days=days) for days in (70, 9, 3, 0)]
        for place, moment in enumerate(issued):
            revoked = issued[place + 1] if 0 < place < len(issued) - 1 else None
            if moment >= person.created:
                yield (
                    person.id,
                    f"{chance.getrandbits(512):0128x}",
                    _stamp(moment + timedelta(days=30)),
                    _stamp(moment),
                    _stamp(revoked) if revoked else None,
                )


def _attempts(sample: Sample, people: Sequence[Person]) -> Iterator[tuple[object, ...]]:
    """Attempts of the last day, which is as long as the app keeps them."""
    found: list[tuple[datetime, str, str, int]] = []
    for person in people:
        chance = dice(sample.seed, "attempts", person.id)
        if person.seen and sample.at - person.seen < timedelta(days=1):
            mistakes = chance.choice((0, 0, 0, 1, 2))
            found += [
                (person.seen - timedelta(seconds=9 * miss), person.username, person.address, int(not miss))
                for miss in range(mistakes + 1)
            ]
        if person.locked:
            spellings = (person.username, person.username.upper(), person.username.title())
            found += [
                (sample.at - timedelta(minutes=1 + miss), spellings[miss % 3], "203.0.113.66", 0)
                for miss in range(9)
            ]
    found += [(sample.ago((hour + 0.5) / 24), "root", "203.0.113.99", 0) for hour in range(24)]
    for moment, username, address, success in sorted(found):
        yield username, address, success, _stamp(moment)


def _settings(sample: Sample, people: Iterable[Person]) -> Iterator[tuple[object, ...]]:
    for person in people:
        chance = dice(sample.seed, "settings", person.id)
        chosen = {
            "theme_mode": chance.choice(("dark", "dark", "light", "system")),
            "primary_color": chance.choice(COLORS),
        }
        if likely(chance, 0.4):
            chosen["card_size"] = chance.choice(("small", "medium", "large"))
        if likely(chance, 0.3):
            chosen["view_mode"] = chance.choice(("grid", "list"))
        if likely(chance, 0.2):
            chosen["sidebar_collapsed"] = chance.choice(("true", "false"))
        if person.id > 1 and likely(chance, 0.1):  # made by an admin: the app gives such users no settings
            continue
        for key, value in chosen.items():
            yield person.id, key, value, _stamp(person.created), _stamp(person.seen or person.created)


def _plays(sample: Sample, people: Sequence[Person]) -> Iterator[tuple[object, ...]]:
    """Sessions in the order of their start: more of them lately; the newest still run, some were never ended."""
    players = [person.id for person in people if person.plays]
    running = max(1, sample.plays // 500)
    for number in range(sample.plays):
        chance = dice(sample.seed, "play", number)
        age = HISTORY * (1 - (number + chance.random()) / sample.plays) ** 1.5
        runs = number >= sample.plays - running
        if runs:  # however few plays there are, the last ones began within three hours
            age = min(age, 0.125)
        started = sample.ago(age)
        duration = min(int(60 * 1.5 ** chance.uniform(0, 12)), 14_000)
        abandoned = age > ABANDONED_AFTER and (number == 0 or likely(chance, 0.02))
        ended = started + timedelta(seconds=duration)
        open_ = runs or abandoned or ended > sample.at
        key, title = game_name(sample, spread(ranked(chance, sample.games), sample.games))
        yield (
            players[spread(ranked(chance, len(players)), len(players))],
            key,
            title,
            _stamp(started),
            None if open_ else _stamp(ended),
            None if open_ else duration,
            uuid4(chance),
        )


def _activities(sample: Sample, people: Sequence[Person]) -> Iterator[tuple[object, ...]]:
    """A month of the log, which is as long as the app keeps it."""
    present = [person for person in people if person.seen and person.seen > sample.ago(LOG_DAYS)]
    admin = (people[0].id, people[0].username, people[0].address)
    entries = sample.plays // 2 + 4 * len(people)
    for number in range(entries):
        chance = dice(sample.seed, "activity", number)
        when = _stamp(sample.ago(LOG_DAYS * (1 - (number + chance.random()) / entries)))
        person = present[spread(ranked(chance, len(present)), len(present))]
        who: tuple[int | None, str | None, str] = (person.id, person.username, person.address)
        what: tuple[str, str, str | None, str | None]
        kind = chance.choices(tuple(ACTIVITIES), tuple(ACTIVITIES.values()))[0]
        if kind == "game" and sample.games:
            key, title = game_name(sample, spread(ranked(chance, sample.games), sample.games))
            played = person.plays and likely(chance, 0.55)
            what = ("game.play" if played else "game.view", "games", key, f'{{"title":"{title}"}}')
        elif kind == "admin":
            who, what = admin, chance.choice(ADMIN_WORK)
        elif kind == "failed":  # nobody was signed in
            who, what = (None, None, "203.0.113.99"), ("login.failed", "auth", None, '{"username":"root"}')
        elif kind == "gone":  # the user was deleted since; the name stays
            who, what = (None, "former.member", "198.51.100.77"), ("logout", "auth", None, None)
        else:
            what = ("logout" if kind == "logout" else "login", "auth", None, None)
        yield (*who[:2], *what, who[2], chance.choice(AGENTS), when)
