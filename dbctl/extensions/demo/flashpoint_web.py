"""The sample of Flashpoint Web: roles, users with their rows, and half a year of plays; see also ``flashpoint_games``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from dbctl.engines.contract.database import Condition
from dbctl.extensions.demo.flashpoint_games import fill_archive, game_name
from dbctl.extensions.demo.random import choose_name, choose_weighted, happens, uuid4, zipf_index
from dbctl.extensions.demo.sample import RowWriter, Sample
from dbctl.model import Struct

#: The ids of the roles; the first three are built in, and the sample adds a role that can be changed and deleted.
ROLES = {"admin": 1, "user": 2, "guest": 3, "moderator": 4}
#: The share of users who never signed in, which have the newest accounts; the next newest user is locked out.
NEVER_SIGNED_IN = 0.12
#: Days of play history (most accounts are older), and of the app's log.
HISTORY, LOG_DAYS = 180, 30
#: Days after which the app considers an open session abandoned.
ABANDONED_AFTER = 1
ADMIN_ACTIONS = (
    ("user.create", "users", "5", None),
    ("user.update", "users", "6", '{"is_active":true}'),
    ("role.update", "roles", "4", "moderators may read the log"),
)


class User(Struct, frozen=True, kw_only=True):
    """One generated user; ids begin with 1."""

    id: int
    username: str
    role: str
    active: bool
    created: datetime
    seen: datetime | None  #: the last sign-in
    plays: bool
    locked: bool
    address: str


def fill_user(sample: Sample, rows: RowWriter) -> None:
    """Fill ``user.db`` after its migrations."""
    users = [_create_user(sample, number) for number in range(sample.counts["users"])]
    _roles(sample, rows)
    for user in users:
        rows.add(
            "users",
            id=user.id,
            username=user.username,
            email=f"{user.username}@flashpoint.example",
            password_hash=sample.password_hash(user.id - 1),
            role_id=ROLES[user.role],
            is_active=user.active,
            created_at=user.created,
            updated_at=user.created,
            last_login_at=user.seen,
        )
    rows.flush()
    for category, key, value in sample.words["changed_settings"]:
        rows.update(
            "system_settings",
            {"value": value, "updated_at": sample.ago(40), "updated_by": 1},
            [Condition("category", "=", category), Condition("key", "=", key)],
        )
    for user in users:
        _tokens(sample, rows, user)
        _settings(sample, rows, user)
    _attempts(sample, rows, users)
    rows.flush()
    _plays(sample, rows, users)
    _activities(sample, rows, users)


FILLS = {"flashpoint": fill_archive, "user": fill_user}


def _roles(sample: Sample, rows: RowWriter) -> None:
    installed = sample.ago(1000)
    # The migrations stored the current time; the sample is years old, and does not depend on the current time.
    for table in ("roles", "permissions", "role_permissions"):
        rows.update(table, {"created_at": installed}, [])
    for table in ("roles", "system_settings"):
        rows.update(table, {"updated_at": installed}, [])
    rows.add(
        "roles",
        id=ROLES["moderator"],
        name="moderator",
        description="Manages playlists and members",
        priority=70,
        created_at=installed,
        updated_at=installed,
    )
    names = sample.words["moderator_permissions"]
    for (key,) in rows.db.select("permissions", ("id",), [Condition("name", "in", names)]):
        rows.add("role_permissions", role_id=ROLES["moderator"], permission_id=key, created_at=installed)


def _create_user(sample: Sample, number: int) -> User:
    rng, count = sample.rng_for("person", number), sample.counts["users"]
    position = (number + 0.5) / count
    account = sample.account(number)
    is_new = account is None and position > 1 - NEVER_SIGNED_IN
    is_locked = account is None and not is_new and (number + 1.5) / count > 1 - NEVER_SIGNED_IN
    role = (
        account.role
        if account
        else choose_weighted(rng, {"user": 89, "guest": 7, "moderator": 3, "admin": 1})
    )
    active = account is not None or is_locked or happens(rng, 0.93)
    # By id: accounts from a period of two years, then a gap, then the users who never signed in.
    age = 60 * (1 - position) / NEVER_SIGNED_IN if is_new else 200 + 700 * (1 - position)
    created = sample.ago(age)
    is_dormant = not active or (account is None and not is_locked and happens(rng, 0.15))
    seen = created + timedelta(days=rng.uniform(0, 20)) if is_dormant else sample.ago(30 * rng.random() ** 2)
    return User(
        id=number + 1,
        username=account.login if account else f"{'.'.join(choose_name(rng))}{number}",
        role=role,
        active=active,
        created=created,
        seen=None if is_new else seen,
        plays=not is_new and not is_dormant and role != "guest",  # guests must not play
        locked=is_locked,
        address=f"198.51.100.{rng.randrange(1, 255)}",
    )


def _tokens(sample: Sample, rows: RowWriter, user: User) -> None:
    rng = sample.rng_for("tokens", user.id)
    if user.seen is None:
        return
    # A token is used once: the next sign-in revoked it; the oldest token expired.
    issued = [user.seen - timedelta(days=days) for days in (70, 9, 3, 0)]
    for index, issued_at in enumerate(issued):
        if issued_at >= user.created:
            rows.add(
                "refresh_tokens",
                user_id=user.id,
                token=f"{rng.getrandbits(512):0128x}",
                expires_at=issued_at + timedelta(days=30),
                created_at=issued_at,
                revoked_at=issued[index + 1] if 0 < index < len(issued) - 1 else None,
            )


def _attempts(sample: Sample, rows: RowWriter, users: Sequence[User]) -> None:
    """Insert the sign-in attempts of the last day; the app stores no older ones."""
    attempts: list[tuple[datetime, str, str, int]] = []
    for user in users:
        rng = sample.rng_for("attempts", user.id)
        if user.seen and sample.at - user.seen < timedelta(days=1):
            failures = rng.choice((0, 0, 0, 1, 2))
            attempts += [
                (user.seen - timedelta(seconds=9 * miss), user.username, user.address, int(not miss))
                for miss in range(failures + 1)
            ]
        if user.locked:
            spellings = (user.username, user.username.upper(), user.username.title())
            attempts += [
                (sample.at - timedelta(minutes=1 + miss), spellings[miss % 3], "203.0.113.66", 0)
                for miss in range(9)
            ]
    attempts += [(sample.ago((hour + 0.5) / 24), "root", "203.0.113.99", 0) for hour in range(24)]
    for at, username, address, success in sorted(attempts):
        rows.add("login_attempts", username=username, ip_address=address, success=success, attempted_at=at)


def _settings(sample: Sample, rows: RowWriter, user: User) -> None:
    rng = sample.rng_for("settings", user.id)
    values = {
        "theme_mode": rng.choice(("dark", "dark", "light", "system")),
        "primary_color": rng.choice(sample.words["colors"]),
    }
    if happens(rng, 0.4):
        values["card_size"] = rng.choice(("small", "medium", "large"))
    if happens(rng, 0.3):
        values["view_mode"] = rng.choice(("grid", "list"))
    if happens(rng, 0.2):
        values["sidebar_collapsed"] = rng.choice(("true", "false"))
    if user.id > 1 and happens(rng, 0.1):  # created by an admin: the app adds no settings for these users
        return
    for key, value in values.items():
        rows.add(
            "user_settings",
            user_id=user.id,
            setting_key=key,
            setting_value=value,
            created_at=user.created,
            updated_at=user.seen or user.created,
        )


def _plays(sample: Sample, rows: RowWriter, users: Sequence[User]) -> None:
    """Insert play sessions by start, increasingly frequent; the newest are still running, and some were never ended."""
    players, games = [user.id for user in users if user.plays], sample.counts["games"]
    plays = sample.counts["plays"] if games else 0
    running = max(1, plays // 500)
    for number in range(plays):
        rng = sample.rng_for("play", number)
        age = HISTORY * (1 - (number + rng.random()) / plays) ** 1.5
        is_running = number >= plays - running
        if is_running:  # the last sessions began within three hours, even if there are few
            age = min(age, 0.125)
        started = sample.ago(age)
        duration = min(int(60 * 1.5 ** rng.uniform(0, 12)), 14_000)
        abandoned = age > ABANDONED_AFTER and (number == 0 or happens(rng, 0.02))
        ended = started + timedelta(seconds=duration)
        is_open = is_running or abandoned or ended > sample.at
        key, title = game_name(sample, zipf_index(rng, games))
        rows.add(
            "user_game_plays",
            user_id=players[zipf_index(rng, len(players))],
            game_id=key,
            game_title=title,
            started_at=started,
            ended_at=None if is_open else ended,
            duration_seconds=None if is_open else duration,
            session_id=uuid4(rng),
        )


def _activities(sample: Sample, rows: RowWriter, users: Sequence[User]) -> None:
    """Insert the log of ``LOG_DAYS`` days."""
    recent_users = [user for user in users if user.seen and user.seen > sample.ago(LOG_DAYS)]
    games = sample.counts["games"]
    entries = (sample.counts["plays"] if games else 0) // 2 + 4 * len(users)
    for number in range(entries):
        rng = sample.rng_for("activity", number)
        created_at = sample.ago(LOG_DAYS * (1 - (number + rng.random()) / entries))
        user = recent_users[zipf_index(rng, len(recent_users))]
        user_id: int | None = user.id
        username: str | None = user.username
        address = user.address
        kind = choose_weighted(rng, sample.words["activities"])
        action: tuple[str, str, str | None, str | None]
        if kind == "game" and games:
            key, title = game_name(sample, zipf_index(rng, games))
            played = user.plays and happens(rng, 0.55)
            action = ("game.play" if played else "game.view", "games", key, f'{{"title":"{title}"}}')
        elif kind == "admin":
            user_id, username, address = users[0].id, users[0].username, users[0].address
            action = rng.choice(ADMIN_ACTIONS)
        elif kind == "failed":  # without a user
            user_id, username, address = None, None, "203.0.113.99"
            action = ("login.failed", "auth", None, '{"username":"root"}')
        elif kind == "gone":  # the user was deleted later; the name remains
            user_id, username, address = None, "former.member", "198.51.100.77"
            action = ("logout", "auth", None, None)
        else:
            action = ("logout" if kind == "logout" else "login", "auth", None, None)
        rows.add(
            "activity_logs",
            user_id=user_id,
            username=username,
            **dict(zip(("action", "resource", "resource_id", "details"), action, strict=True)),
            ip_address=address,
            user_agent=rng.choice(sample.words["agents"]),
            created_at=created_at,
        )
