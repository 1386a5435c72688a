"""Databases of Flashpoint Web in all variants, and the database of an app without a profile."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from dbctl.profiles.loader import load

FOLDER = Path(__file__).parent
DATA = FOLDER.parent / "data"
MIGRATIONS = FOLDER.parents[1] / "migrations" / "flashpoint-web" / "user" / "document"
#: The migration that the deployed app applies; ``test_real.py`` compares its schema with the recorded one.
DEPLOYED = MIGRATIONS.parent / "deployed" / "001_complete_schema.sql"
_MIGRATIONS = load("flashpoint-web").databases["user"].migrations
LEDGER, EARLIER = str(_MIGRATIONS.ledger.create), _MIGRATIONS.earlier
FIRST_CHECKSUM = "9c74663b91e7c1eff380cd5aaf00501d84e84bccefce1e30400452c8cadde148"
PRIORITY_CHECKSUM = "2b6310c3bc68c5ed4dfac3586ec5e7467b82cb390c4c9c7f172e17843ac0a567"

#: bcrypt of ``PASSWORD`` with cost 4, because a higher cost would slow the tests.
PASSWORD = "correct horse"
PASSWORD_HASH = "$2b$04$dbctlSampleSaltTests.OzTIfHMNjQZel0ETqImA7ZfoSSN2sovy"

HEAD_CHECKSUM = "5647860d5416547ae8c146ff8dbcb5cdec7919dd2d27197e0f2d03a6223f173b"

#: C: several early files. D: one file without domains. D': D and a file that was removed later. E: the newest version.
Era = Literal["C", "D", "D'", "E"]

_ERA_C = [
    ("001_initialize_schema", "e584c6cbafabef54be68e81fa98820fe1ab9037e62eddc8c778c7ceabe389c40"),
    ("002_seed_default_data", "51565bd4b66a03e8eac3d5f1da58023b66015107e23fd36ef6f8e0529322d335"),
    ("003_add_playlist_share_tokens", "02ef56affea1cfb2088053bf121f25db47bd8e199a2385aa2fb42190dc42ba84"),
    (
        "004_grant_play_permission_to_guests",
        "3a4d51652bc84a161c03806ff0f620b3df992d4fcc07ef7541fa23a4d8f82dc1",
    ),
]
_ERA_D = [("001_complete_schema", "9c74663b91e7c1eff380cd5aaf00501d84e84bccefce1e30400452c8cadde148")]
LEDGERS: dict[Era, list[tuple[str, str]]] = {
    "C": _ERA_C,
    "D": _ERA_D,
    "D'": [*_ERA_D, ("002_domains", "7fe4519921bd05fc8a4145e796fa1b19103e85a37d2cd711164b6478c8bea502")],
    "E": [("001_complete_schema", HEAD_CHECKSUM)],
}


# user.db -------------------------------------------------------------------------------------------------------


def deployed_user_db(path: Path, *, priority: bool = False, journal: str = "wal", era: Era = "E") -> Path:
    """Create ``user.db`` of the deployed variant, without users.

    Args:
        path: a file that does not exist; its directory may be missing too.
        priority: with ``roles.priority``, as in databases from before the last change of the migration.
        journal: the journal mode in the header.
        era: selects the rows of the ledger; before E the index of public settings is missing, before D' also ``domains``.
    """
    with _create_file(path, journal) as connection:
        connection.executescript(LEDGER)
        connection.executescript(DEPLOYED.read_text(encoding="utf-8"))
        if priority or era != "E":
            _convert_to_earlier(connection, FIRST_CHECKSUM if era != "E" else PRIORITY_CHECKSUM)
        if era == "D'":
            connection.executescript(EARLIER[LEDGERS[era][-1][1]])
        connection.executemany(
            "insert into migrations (name, checksum, execution_time_ms, applied_at) values (?, ?, 12, '2026-02-14T09:30:00.000Z')",
            LEDGERS[era],
        )
    return path


def _convert_to_earlier(connection: sqlite3.Connection, checksum: str) -> None:
    """Convert the current schema to that of an earlier migration text; restore roles and permissions."""
    roles = connection.execute("select id, name, description from roles").fetchall()
    role_permissions = connection.execute("select role_id, permission_id from role_permissions").fetchall()
    connection.executescript(EARLIER[checksum])
    connection.executemany("insert into roles (id, name, description) values (?, ?, ?)", roles)
    connection.execute(
        "update roles set priority = case name when 'admin' then 100 when 'user' then 50 else 0 end"
    )
    connection.executemany(
        "insert into role_permissions (role_id, permission_id) values (?, ?)", role_permissions
    )


def document_user_db(path: Path, *, journal: str = "wal") -> Path:
    """Create ``user.db`` of the document variant with its four migrations, without users and without a ledger."""
    with _create_file(path, journal) as connection:
        for file in sorted(MIGRATIONS.glob("*.sql")):
            connection.executescript(file.read_text(encoding="utf-8"))
    return path


def add_user(
    path: Path,
    username: str,
    role_id: int = 2,
    *,
    email: str = "",
    active: bool = True,
    password_hash: str = PASSWORD_HASH,
) -> int:
    """Insert a user (password ``PASSWORD`` by default) and return the ID; for all variants of ``user.db``."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("pragma foreign_keys = on")
        cursor = connection.execute(
            "insert into users (username, email, password_hash, role_id, is_active) values (?, ?, ?, ?, ?)",
            (username, email or f"{username}@example.org", password_hash, role_id, int(active)),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid


# flashpoint.sqlite ---------------------------------------------------------------------------------------------


def launcher_flashpoint_db(path: Path) -> Path:
    """Copy a database of 1,200 games that the launcher created; its header contains WAL mode."""
    return _copy(DATA / "flashpoint-launcher.sqlite", path)


def launcher_extras_db(path: Path) -> Path:
    """Copy a small database with additional apps, redirects, several data entries, play time, broken and extreme games."""
    return _copy(DATA / "flashpoint-launcher-extras.sqlite", path)


def document_flashpoint_db(path: Path, games: int = 48, *, journal: str = "delete") -> Path:
    """Create ``flashpoint.sqlite`` with the schema of the document.

    The first games are ``ODD_GAMES``, one per special case. The others follow a pattern, which makes counts
    predictable: every second game is by "Moss Studio", every fifth is theatre.
    """
    with _create_file(path, journal) as connection:
        connection.executescript((FOLDER / "flashpoint-document.sql").read_text(encoding="utf-8"))
        connection.executemany("insert into platform (id, name) values (?, ?)", enumerate(PLATFORMS, 1))
        connection.executemany(
            "insert into tag (id, name, category) values (?, ?, ?)",
            [(number, name, category) for number, (name, category) in enumerate(TAGS.items(), 1)],
        )
        for number in range(1, games + 1):
            _add_game(
                connection, number, ODD_GAMES[number - 1] if number <= len(ODD_GAMES) else _plain_game(number)
            )
        connection.executemany(
            "insert into playlist (id, title, description, author, library, icon) values (?, ?, ?, ?, ?, ?)",
            PLAYLISTS,
        )
        for playlist, members in PLAYLIST_GAMES.items():
            connection.executemany(
                'insert into playlist_game (playlistId, gameId, "order", notes) values (?, ?, ?, ?)',
                [
                    (playlist, game_id(number), order, notes)
                    for number, order, notes in members
                    if number <= games
                ],
            )
    return path


PLATFORMS = ("Flash", "HTML5", "Shockwave", "Java", "Unity", "Silverlight")
TAGS = {
    "Action": "genre",
    "Puzzle": "genre",
    "Platformer": "genre",
    "Adventure": "genre",
    "Point and Click": "genre",
    "Side-Scroller": "view",
    "100% Complete": "meta",
    "Mouse_Only": "meta",
    "Violence": "warning",
    "Unused Tag": None,
}


def game_id(number: int) -> str:
    """Return the id of a game; numbers start at 1."""
    return f"00000000-0000-4000-8000-{number:012d}"


#: Other columns have the defaults of ``_add_game``. ``data`` is a list of (presentOnDisk, launchCommand), oldest first.
ODD_GAMES: tuple[dict[str, object], ...] = (
    {"title": "Alpha Valley", "tags": ["Action", "Puzzle", "Platformer"], "releaseDate": "2005-03-07", "data": [(1, None)]},
    {"title": "alpha valley 2", "orderTitle": "", "parent": 1, "series": "Alpha Valley", "releaseDate": "2005", "data": [(0, None)]},
    {"title": "Broken Bridge", "broken": 1, "status": "Broken", "releaseDate": "2005-03"},
    {"title": "Crimson Night", "extreme": 1, "tags": ["Action", "Violence"], "releaseDate": ""},
    {"title": "Broken and Extreme", "broken": 1, "extreme": 1, "tags": ["Violence"]},
    {"title": "Nobody Said", "broken": None, "extreme": None, "developer": None, "publisher": None, "series": None, "language": None,
     "platform": None, "tags": [], "releaseDate": None, "dateAdded": None, "dateModified": None, "playMode": None, "status": None,
     "notes": None, "source": None, "launchCommand": None, "data": []},
    {"title": "100% Pure_Fun", "tags": ["100% Complete", "Mouse_Only"], "developer": "50% Studio"},
    {"title": "1000 Pure Funs", "developer": "505 Studio"},
    {"title": "It's a \"Quoted\" Game", "developer": "O'Brien & Sons", "notes": "semi;colon -- no comment"},
    {"title": "[bold red]Markup[/bold red]", "notes": "[link=https://example.org]here[/link]"},
    {"title": "Ünïcode: 日本語のゲーム 🎮", "alternateTitles": "Unicode; Nihongo", "language": "ja;en", "developer": "Ärger Spiele"},
    {"title": "bell\x07 and \x1b[31mred and \u202ereversed", "notes": "line one\nline two\ttab"},
    {"title": "The Last Order", "orderTitle": "last order, the", "language": "en; de", "alternateTitles": "Final Order"},
    {"title": "", "orderTitle": "", "notes": "a game without a title"},
    {"title": "Two Sets of Data", "data": [(0, "http://example.org/old.swf"), (1, "http://example.org/present.swf"), (0, "http://example.org/new.swf")]},
    {"title": "Needs No Data", "data": [(None, None)], "platform": "HTML5", "launchCommand": "https://example.org/index.html"},
    {"title": "Still to Download", "data": [(0, None), (0, None)], "platform": "Shockwave"},
    {"title": "Two Platforms", "platform": "Flash", "platforms": "Flash;HTML5"},
    {"title": "A Short Film", "library": "theatre", "playMode": "", "tags": []},
    {"title": "Together", "playMode": "Cooperative; Multiplayer", "tags": ["Adventure", "Point and Click"]},
    {"title": "Alpha%", "series": "Alpha_Valley", "archiveState": 0},
    {"title": "zebra crossing", "archiveState": 1, "version": "1.0.2", "logoPath": "Logos/z.png", "screenshotPath": "Shots/z.png"},
)  # fmt: skip

PLAYLISTS = [
    (
        "10000000-0000-4000-8000-000000000001",
        "Favourites of 100%",
        "in an order of their own",
        "mara",
        "arcade",
        "star",
    ),
    ("10000000-0000-4000-8000-000000000002", "Short Films", None, None, "theatre", None),
    ("10000000-0000-4000-8000-000000000003", "Empty [list]", "", "o'brien", None, None),
]
#: Members as (number of the game, order, notes), not sorted by number; one member has no order.
PLAYLIST_GAMES: dict[str, list[tuple[int, int | None, str | None]]] = {
    PLAYLISTS[0][0]: [(15, 1, "start here"), (1, 2, None), (9, 3, ""), (4, 4, None)],
    PLAYLISTS[1][0]: [(19, 1, None), (13, None, None)],
}


def _plain_game(number: int) -> dict[str, object]:
    return {
        "title": f"Plain Game {number:03d}",
        "developer": "Moss Studio" if number % 2 else "Fern Works",
        "platform": PLATFORMS[number % 3],
        "library": "theatre" if number % 5 == 0 else "arcade",
        "tags": [list(TAGS)[number % 5]],
        "releaseDate": f"{2000 + number % 20}-{1 + number % 12:02d}-{1 + number % 28:02d}",
        "data": [(number % 2, None)],
    }


def _add_game(connection: sqlite3.Connection, number: int, odd: dict[str, object]) -> None:
    title = str(odd["title"])
    tags = [str(name) for name in odd.get("tags", ["Puzzle"])]  # type: ignore[attr-defined]
    platform = odd.get("platform", "Flash")
    row: dict[str, object] = {
        "id": game_id(number),
        "parentGameId": game_id(int(str(odd["parent"]))) if "parent" in odd else None,
        "alternateTitles": "",
        "series": "",
        "developer": "Fern Works",
        "publisher": "Heath Games",
        "platformName": platform,
        "platformsStr": platform,
        "platformId": PLATFORMS.index(str(platform)) + 1 if platform else None,
        "playMode": "Single Player",
        "status": "Playable",
        "broken": 0,
        "extreme": 0,
        "notes": "",
        "tagsStr": "; ".join(tags),
        "source": "https://example.org/games",
        "applicationPath": "FPSoftware\\player.exe",
        "launchCommand": f"http://example.org/{number}/game.swf",
        "releaseDate": "2010-10-10",
        "version": "",
        "originalDescription": f"Number {number} of the shelf.",
        "language": "en",
        "library": "arcade",
        "orderTitle": title.lower(),
        "dateAdded": f"2020-01-{1 + number % 28:02d}T10:00:00.000Z",
        "dateModified": f"2024-06-{1 + number % 28:02d}T12:30:00.500Z",
        "archiveState": 2,
        "logoPath": None,
        "screenshotPath": None,
    }
    row.update({key: value for key, value in odd.items() if key in row or key == "title"})
    if "platforms" in odd:
        row["platformsStr"] = odd["platforms"]
    names = ", ".join(f'"{name}"' for name in row)
    connection.execute(f"insert into game ({names}) values ({', '.join('?' * len(row))})", list(row.values()))
    connection.executemany(
        "insert into game_tags_tag (gameId, tagId) values (?, ?)",
        [(row["id"], list(TAGS).index(name) + 1) for name in tags],
    )
    for position, (present, command) in enumerate(odd.get("data", [(1, None)]), 1):  # type: ignore[arg-type, var-annotated]
        connection.execute(
            "insert into game_data (gameId, title, dateAdded, sha256, crc32, presentOnDisk, path, size, parameters, launchCommand)"
            " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row["id"],
                f"Data {position}",
                f"2021-0{position}-01T00:00:00.000Z",
                f"{number:032x}{position:032x}",
                f"{number:08x}",
                present,
                f"Games/{row['id']}-{position}.zip" if present is not None else None,
                1000 * number + position,
                None,
                command,
            ),
        )


# An app without a profile --------------------------------------------------------------------------------------


def larder_db(path: Path, *, journal: str = "delete") -> Path:
    """Create the database of "Larder", an invented recipe app.

    It shares no name with Flashpoint Web: keys are UUIDs, the role is a text column, times are epoch milliseconds, a
    table is named ``order`` and a column ``a "pinch"``. Members: pip (chief), ana and 木下 (cooks), olav (guest,
    disabled); the password of each is ``PASSWORD``.
    """
    with _create_file(path, journal) as connection:
        connection.executescript(
            (FOLDER / "larder.sql")
            .read_text(encoding="utf-8")
            .replace(":password_hash", f"'{PASSWORD_HASH}'")
        )
    return path


# Helpers -------------------------------------------------------------------------------------------------------


@contextmanager
def _create_file(path: Path, journal: str) -> Iterator[sqlite3.Connection]:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert not path.exists(), path
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"pragma journal_mode = {journal}")
        connection.execute("pragma synchronous = off")
        connection.execute("pragma foreign_keys = on")
        yield connection


def _copy(source: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)
    return path
