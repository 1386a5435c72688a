"""What users of the sample did: play sessions, the statistics of them, and the app's log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from dbctl.demo.flashpoint_web.games import game_name
from dbctl.demo.flashpoint_web.sample import Sample, insert, stamp
from dbctl.demo.flashpoint_web.users import Person
from dbctl.demo.random import Progress, batches, dice, likely, ranked, spread, uuid4
from dbctl.engines.contract import Writable

#: Days of play history; a veteran's account is older than all of it.
HISTORY = 180
#: Days after which the app takes a session that never ended for abandoned.
ABANDONED_AFTER = 1

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
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
)

#: The columns that the sample fills, in the order in which its rows are made.
COLUMNS = {
    "user_game_plays": "user_id game_id game_title started_at ended_at duration_seconds session_id",
    "activity_logs": "user_id username action resource resource_id details ip_address user_agent created_at",
}


def fill_history(db: Writable, sample: Sample, people: Sequence[Person], progress: Progress | None) -> int:
    """Make the plays and the log; return how many entries the log has."""
    for batch in batches(_plays(sample, people), progress):
        insert(db, COLUMNS, "user_game_plays", batch)
    return insert(db, COLUMNS, "activity_logs", _activities(sample, people))


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
            stamp(started),
            None if open_ else stamp(ended),
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
        when = stamp(sample.ago(LOG_DAYS * (1 - (number + chance.random()) / entries)))
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
