"""The activity of the users: play sessions, their statistics, and the app's log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from dbctl.demo.flashpoint_web.games import game_name
from dbctl.demo.flashpoint_web.sample import Sample, format_time, insert
from dbctl.demo.flashpoint_web.users import User
from dbctl.demo.random import Progress, batches, happens, rng_for, shuffle_rank, uuid4, zipf_rank
from dbctl.engines.contract import Writable

#: Days of play history; most accounts are older.
HISTORY = 180
#: Days after which the app considers an open session abandoned.
ABANDONED_AFTER = 1

#: Statistics of ended sessions, as the app computes them.
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

#: Days for which the app stores its log, and the percentage of each kind of entry.
LOG_DAYS = 30
ACTIVITIES = {"game": 74, "login": 12, "logout": 6, "admin": 3, "failed": 4, "gone": 1}
ADMIN_ACTIONS = (
    ("user.create", "users", "5", None),
    ("user.update", "users", "6", '{"is_active":true}'),
    ("role.update", "roles", "4", "moderators may read the log"),
)
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
)

#: The columns that the sample fills, in the order of the values of its rows.
COLUMNS = {
    "user_game_plays": "user_id game_id game_title started_at ended_at duration_seconds session_id",
    "activity_logs": "user_id username action resource resource_id details ip_address user_agent created_at",
}


def fill_history(db: Writable, sample: Sample, users: Sequence[User], progress: Progress | None) -> int:
    """Insert the plays and the log; return the number of log entries."""
    for batch in batches(_plays(sample, users), progress):
        insert(db, COLUMNS, "user_game_plays", batch)
    return insert(db, COLUMNS, "activity_logs", _activities(sample, users))


def _plays(sample: Sample, users: Sequence[User]) -> Iterator[tuple[object, ...]]:
    """Yield play sessions by start, increasingly frequent; the newest are still running, and some were never ended."""
    players = [user.id for user in users if user.plays]
    running = max(1, sample.plays // 500)
    for number in range(sample.plays):
        rng = rng_for(sample.seed, "play", number)
        age = HISTORY * (1 - (number + rng.random()) / sample.plays) ** 1.5
        is_running = number >= sample.plays - running
        if is_running:  # the last sessions began within three hours, even if there are few
            age = min(age, 0.125)
        started = sample.ago(age)
        duration = min(int(60 * 1.5 ** rng.uniform(0, 12)), 14_000)
        abandoned = age > ABANDONED_AFTER and (number == 0 or happens(rng, 0.02))
        ended = started + timedelta(seconds=duration)
        is_open = is_running or abandoned or ended > sample.at
        key, title = game_name(sample, shuffle_rank(zipf_rank(rng, sample.games), sample.games))
        yield (
            players[shuffle_rank(zipf_rank(rng, len(players)), len(players))],
            key,
            title,
            format_time(started),
            None if is_open else format_time(ended),
            None if is_open else duration,
            uuid4(rng),
        )


def _activities(sample: Sample, users: Sequence[User]) -> Iterator[tuple[object, ...]]:
    """Yield the log of ``LOG_DAYS`` days."""
    recent_users = [user for user in users if user.seen and user.seen > sample.ago(LOG_DAYS)]
    admin = (users[0].id, users[0].username, users[0].address)
    entries = sample.plays // 2 + 4 * len(users)
    for number in range(entries):
        rng = rng_for(sample.seed, "activity", number)
        created_at = format_time(sample.ago(LOG_DAYS * (1 - (number + rng.random()) / entries)))
        user = recent_users[shuffle_rank(zipf_rank(rng, len(recent_users)), len(recent_users))]
        actor: tuple[int | None, str | None, str] = (user.id, user.username, user.address)
        action: tuple[str, str, str | None, str | None]
        kind = rng.choices(tuple(ACTIVITIES), tuple(ACTIVITIES.values()))[0]
        if kind == "game" and sample.games:
            key, title = game_name(sample, shuffle_rank(zipf_rank(rng, sample.games), sample.games))
            played = user.plays and happens(rng, 0.55)
            action = ("game.play" if played else "game.view", "games", key, f'{{"title":"{title}"}}')
        elif kind == "admin":
            actor, action = admin, rng.choice(ADMIN_ACTIONS)
        elif kind == "failed":  # without a user
            actor, action = (
                (None, None, "203.0.113.99"),
                ("login.failed", "auth", None, '{"username":"root"}'),
            )
        elif kind == "gone":  # the user was deleted later; the name remains
            actor, action = (None, "former.member", "198.51.100.77"), ("logout", "auth", None, None)
        else:
            action = ("logout" if kind == "logout" else "login", "auth", None, None)
        yield (*actor[:2], *action, actor[2], rng.choice(AGENTS), created_at)
