"""Sample deployments, built once and cached in the temporary directory of the system."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

from dbctl.extensions.demo import builder
from dbctl.extensions.demo.builder import build_sample
from tests.shapes import flashpoint_web

CONFIGURATION = """\
[apps.flashpoint]
profile = "flashpoint-web"
[apps.flashpoint.databases]
user = "backend/user.db"
"""
ARCHIVE = 'flashpoint = "Data/flashpoint.sqlite"\n'

#: Rows of the cleanup samples: all, and those that are due.
PLAYS, ABANDONED = 1_000_000, 50_000
ATTEMPTS, OLD = 5_000_000, 1_000_000


def deployment(*, games: int, users: int) -> Path:
    """Return the directory of a sample with a ``dbctl.toml``; it is rebuilt when its generator changes."""

    def make(place: Path) -> None:
        build_sample(place, counts={"games": games, "users": users, "plays": 1_000})
        (place / "dbctl.toml").write_text(CONFIGURATION + ARCHIVE)

    return cached_sample(
        f"{games}-games-{users}-users", sorted(Path(builder.__file__).parent.rglob("*.[pt]*[yl]")), make
    )


def launcher(*, games: int) -> Path:
    """Return the directory of a sample with a games file in the schema of the launcher's engine.

    Each of ``LAUNCHER_WORDS`` is in that number of 200,000 titles, evenly distributed.
    """

    def make(place: Path) -> None:
        archive = deployment(games=games, users=100) / "Data/flashpoint.sqlite"
        (place / "Data").mkdir()
        path = Path(shutil.copy(_LAUNCHER, place / "Data/flashpoint.sqlite"))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("pragma journal_mode = off")
            connection.execute("pragma synchronous = off")
            connection.execute("attach ? as demo", [str(archive)])
            connection.execute("begin")
            for statement in _LAUNCHER_STATEMENTS:
                connection.execute(statement)
            for number, (word, hits) in enumerate(LAUNCHER_WORDS.items()):
                chance = f"(rowid * {7_919 + 2 * number * 5_000} % {games})"
                connection.execute(f"update game set title = title || ' {word}' where {chance} < {hits}")
            connection.execute("commit")
            connection.execute("vacuum")
        (place / "dbctl.toml").write_text(CONFIGURATION + ARCHIVE)

    sources = [Path(__file__), _LAUNCHER, *sorted(Path(builder.__file__).parent.rglob("*.[pt]*[yl]"))]
    return cached_sample(f"{games}-launcher", sources, make)


def plays() -> Path:
    """Return a deployed ``user.db`` of 1,000 users and a million plays, 50,000 of them abandoned, with their statistics.

    The number of plays is skewed: the first user has 31,000. Timestamps have both formats.
    """
    return cached_sample("plays", _SOURCES, lambda place: _fill(place, _PLAYS))


def attempts() -> Path:
    """Return a deployed ``user.db`` of five million sign-in attempts, a million of them expired."""
    return cached_sample("attempts", _SOURCES, lambda place: _fill(place, _ATTEMPTS))


@contextmanager
def copy_sample(place: Path) -> Iterator[Path]:
    """Yield a synced copy of a sample; it is removed at the end."""
    with tempfile.TemporaryDirectory(dir=place.parent) as directory:
        copy = Path(shutil.copytree(place, Path(directory) / "copy"))
        os.sync()
        yield copy


def cached_sample(name: str, sources: Sequence[Path], make: Callable[[Path], None]) -> Path:
    fingerprint = sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    root = Path(tempfile.gettempdir()) / f"dbctl-benchmarks-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    directory = root / f"{name}-{fingerprint}"
    if not directory.exists():
        temporary = Path(tempfile.mkdtemp(dir=root))
        try:
            make(temporary)
            temporary.rename(directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return directory


#: Words that no other title has, and how many games have them.
LAUNCHER_WORDS = {"Vrykolakas": 5, "Quokka": 124, "Ostinato": 47_000}
_LAUNCHER = Path(flashpoint_web.__file__).parents[1] / "data/flashpoint-launcher.sqlite"
_LAUNCHER_STATEMENTS = [
    *(
        f"delete from {table}"
        for table in ("game_tags_tag", "game_platforms_platform", "tag_alias", "tag", "game_data", "game")
    ),
    """insert into game (id, title, alternateTitles, series, developer, publisher, dateAdded, dateModified, broken, extreme,
        playMode, status, notes, source, applicationPath, launchCommand, releaseDate, version, originalDescription, language,
        library, orderTitle, tagsStr, platformsStr, platformName)
    select id, title, coalesce(alternateTitles, ''), coalesce(series, ''), coalesce(developer, ''), coalesce(publisher, ''),
        dateAdded, dateModified, 0, 0, coalesce(playMode, ''), coalesce(status, ''), coalesce(notes, ''), coalesce(source, ''),
        coalesce(applicationPath, ''), coalesce(launchCommand, ''), coalesce(releaseDate, ''), coalesce(version, ''),
        coalesce(originalDescription, ''), coalesce(language, ''), library, orderTitle, coalesce(tagsStr, ''), platformsStr,
        platformName from demo.game order by rowid""",
    "insert into tag (id, dateModified, primaryAliasId, description) select id, dateModified, id, '' from demo.tag",
    "insert into tag_alias (id, tagId, name) select id, id, name from demo.tag",
    "insert into game_tags_tag (gameId, tagId) select gameId, tagId from demo.game_tags_tag",
    """insert into game_data (gameId, title, dateAdded, sha256, crc32, presentOnDisk, path, size, parameters, launchCommand)
    select gameId, title, dateAdded, coalesce(sha256, ''), 0, coalesce(presentOnDisk, 0), path, coalesce(size, 0), parameters, launchCommand from demo.game_data""",
]

_SOURCES = [Path(__file__), Path(flashpoint_web.__file__), flashpoint_web.DEPLOYED]


def _fill(place: Path, statements: Sequence[str]) -> None:
    (place / "dbctl.toml").write_text(CONFIGURATION)
    path = flashpoint_web.deployed_user_db(place / "backend/user.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode = off", "synchronous = off", "cache_size = -1000000"):
            connection.execute(f"pragma {pragma}")
        connection.execute("begin")
        for statement in statements:
            connection.execute(statement)
        connection.execute("commit")
        connection.execute("pragma journal_mode = wal")


def _numbers(last: int) -> str:
    return f"with recursive n(i) as (select 1 union all select i + 1 from n where i < {last})"


def _chance(multiplier: int) -> str:
    """Return SQL for a pseudo-random number in [0, 1) that depends on the row and the multiplier."""
    return f"(i * {multiplier} % 4294967296 / 4294967296.0)"


# Squared: a few users and games are much more frequent than the others.
_SKEWED_USER, _SKEWED_GAME = (
    f"{_chance(number)} * {_chance(number)}" for number in (2_654_435_761, 2_246_822_519)
)

_PLAYS = [
    f"""{_numbers(1_000)} insert into users (username, email, password_hash, role_id)
    select 'user' || i, 'user' || i || '@example.org', 'x', 2 from n""",
    f"""{_numbers(PLAYS)}, play as (
        select i, 1 + cast(1000 * {_SKEWED_USER} as integer) as user, cast(5000 * {_SKEWED_GAME} as integer) as game,
            1700000000 + i * 31 as began, case when i % {PLAYS // ABANDONED} <> 7 then 60 + i % 7000 end as lasted
        from n
    )
    insert into user_game_plays (user_id, game_id, game_title, started_at, ended_at, duration_seconds, session_id)
    select user, printf('%08x-0000-4000-8000-%012x', game * 2654435761 % 4294967296, game), 'Game ' || game,
        strftime(case when i % 3 then '%Y-%m-%dT%H:%M:%fZ' else '%Y-%m-%d %H:%M:%S' end, began, 'unixepoch'),
        strftime('%Y-%m-%dT%H:%M:%fZ', began + lasted, 'unixepoch'), lasted,
        printf('%08x-%04x-4000-8000-%012x', i * 2654435761 % 4294967296, i * 40503 % 65536, i)
    from play""",
    """insert into user_game_stats
        (user_id, game_id, game_title, total_plays, total_playtime_seconds, first_played_at, last_played_at)
    select user_id, game_id, max(game_title), count(*), sum(duration_seconds), min(started_at), max(ended_at)
    from user_game_plays where ended_at is not null group by user_id, game_id""",
    """insert into user_stats
        (user_id, total_games_played, total_playtime_seconds, total_sessions, first_play_at, last_play_at)
    select user_id, count(distinct game_id), sum(duration_seconds), count(*), min(started_at), max(ended_at)
    from user_game_plays where ended_at is not null group by user_id""",
]

_ATTEMPTS = [
    f"""{_numbers(ATTEMPTS)}
    insert into login_attempts (username, ip_address, success, attempted_at)
    select 'user' || cast(20000 * {_SKEWED_USER} as integer), printf('10.%d.%d.%d', i * 31 % 256, i * 7919 % 256, i * 104729 % 256),
        i % 10 = 0, strftime('%Y-%m-%dT%H:%M:%fZ', case when i <= {OLD} then 1700000000 + i else 4000000000 + i / 50.0 end, 'unixepoch')
    from n"""
]
