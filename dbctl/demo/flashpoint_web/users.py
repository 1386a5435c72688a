"""The app's own database: roles, and users with their rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from dbctl.demo import Account
from dbctl.demo.flashpoint_web.sample import Sample, format_time, insert
from dbctl.demo.random import Progress, batches, happens, hash_password, rng_for
from dbctl.demo.words import NAMES, SURNAMES
from dbctl.engines.contract import Condition, Writable
from dbctl.model import Struct

ACCOUNTS = (
    Account(login="admin", password="sample-admin", role="admin"),  # noqa: S106 - public, guards nothing
    Account(login="morgan", password="sample-moderator", role="moderator"),  # noqa: S106 - a public password
    Account(login="demo", password="sample-user", role="user"),  # noqa: S106 - a public password
    Account(login="visitor", password="sample-guest", role="guest"),  # noqa: S106 - a public password
)
#: All other users have this password, with the same hash, because 500 separate hashes would take half a minute.
COMMON_PASSWORD = "sample-password"  # noqa: S105 - a public password
#: bcrypt cost of the named accounts (as in the app), and of the hash that all other users share.
COST, COMMON_COST = 10, 4

#: The ids of the roles; the first three are built in, and the sample adds a role that can be changed and deleted.
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

#: The share of users who never signed in, which have the newest accounts; the next newest user is locked out.
NEVER_SIGNED_IN = 0.12

#: Settings that the admin of the sample changed.
CHANGED_SETTINGS = (
    ("app", "siteName", "Sample Arcade"),
    ("auth", "maxLoginAttempts", "6"),
    ("game", "defaultVolume", "0.8"),
)
COLORS = ("blue", "green", "purple", "rose", "amber", "teal", "slate")

#: The columns that the sample fills, in the order of the values of its rows.
COLUMNS = {
    "role_permissions": "role_id permission_id created_at",
    "users": "id username email password_hash role_id is_active created_at updated_at last_login_at",
    "refresh_tokens": "user_id token expires_at created_at revoked_at",
    "login_attempts": "username ip_address success attempted_at",
    "user_settings": "user_id setting_key setting_value created_at updated_at",
}


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


def create_users(sample: Sample) -> list[User]:
    """Return all users of the sample, a few hundred bytes each."""
    return [_create_user(sample, number) for number in range(sample.users)]


def fill_users(db: Writable, sample: Sample, users: Sequence[User], progress: Progress | None) -> int:
    """Insert the users and their rows; return the number of sign-in tokens."""
    _age_defaults(db, sample)
    _insert_users(db, sample, users, progress)
    tokens = insert(db, COLUMNS, "refresh_tokens", _tokens(sample, users))
    insert(db, COLUMNS, "login_attempts", _attempts(sample, users))
    insert(db, COLUMNS, "user_settings", _settings(sample, users))
    return tokens


def _age_defaults(db: Writable, sample: Sample) -> None:
    installed = format_time(sample.ago(1000))
    # The migrations stored the current time; the sample is years old, and does not depend on the current time.
    for table in ("roles", "permissions", "role_permissions"):
        db.update(table, {"created_at": installed}, [])
    for table in ("roles", "system_settings"):
        db.update(table, {"updated_at": installed}, [])
    db.insert(
        "roles",
        {
            "id": ROLES["moderator"],
            "name": "moderator",
            "description": "Manages playlists and members",
            "priority": 70,
            "created_at": installed,
            "updated_at": installed,
        },
    )
    granted = db.select("permissions", ("id",), [Condition("name", "in", MODERATOR)])
    insert(db, COLUMNS, "role_permissions", ((ROLES["moderator"], key, installed) for (key,) in granted))


def _insert_users(db: Writable, sample: Sample, users: Sequence[User], progress: Progress | None) -> None:
    common_hash = hash_password(sample.seed, COMMON_PASSWORD, COMMON_COST)
    hashes = [hash_password(sample.seed, account.password, COST) for account in ACCOUNTS]
    for batch in batches(users, progress):
        insert(
            db,
            COLUMNS,
            "users",
            (
                (
                    user.id,
                    user.username,
                    f"{user.username}@flashpoint.example",
                    hashes[user.id - 1] if user.id <= len(hashes) else common_hash,
                    ROLES[user.role],
                    int(user.active),
                    format_time(user.created),
                    format_time(user.created),
                    format_time(user.seen) if user.seen else None,
                )
                for user in batch
            ),
        )
    for category, key, value in CHANGED_SETTINGS:
        db.update(
            "system_settings",
            {"value": value, "updated_at": format_time(sample.ago(40)), "updated_by": 1},
            [Condition("category", "=", category), Condition("key", "=", key)],
        )


def _create_user(sample: Sample, number: int) -> User:
    rng = rng_for(sample.seed, "person", number)
    position = (number + 0.5) / sample.users
    account = ACCOUNTS[number] if number < len(ACCOUNTS) else None
    is_new = account is None and position > 1 - NEVER_SIGNED_IN
    is_locked = account is None and not is_new and (number + 1.5) / sample.users > 1 - NEVER_SIGNED_IN
    role = account.role if account else rng.choices(("user", "guest", "moderator", "admin"), (89, 7, 3, 1))[0]
    active = account is not None or is_locked or happens(rng, 0.93)
    # By id: accounts from a period of two years, then a gap, then the users who never signed in.
    age = 60 * (1 - position) / NEVER_SIGNED_IN if is_new else 200 + 700 * (1 - position)
    created = sample.ago(age)
    is_dormant = not active or (account is None and not is_locked and happens(rng, 0.15))
    seen = created + timedelta(days=rng.uniform(0, 20)) if is_dormant else sample.ago(30 * rng.random() ** 2)
    return User(
        id=number + 1,
        username=account.login if account else f"{rng.choice(NAMES)}.{rng.choice(SURNAMES)}{number}",
        role=role,
        active=active,
        created=created,
        seen=None if is_new else seen,
        plays=not is_new and not is_dormant and role != "guest",  # guests must not play
        locked=is_locked,
        address=f"198.51.100.{rng.randrange(1, 255)}",
    )


def _tokens(sample: Sample, users: Iterable[User]) -> Iterator[tuple[object, ...]]:
    for user in users:
        rng = rng_for(sample.seed, "tokens", user.id)
        if user.seen is None:
            continue
        # A token is used once: the next sign-in revoked it; the oldest token expired.
        issued = [user.seen - timedelta(days=days) for days in (70, 9, 3, 0)]
        for index, issued_at in enumerate(issued):
            revoked = issued[index + 1] if 0 < index < len(issued) - 1 else None
            if issued_at >= user.created:
                yield (
                    user.id,
                    f"{rng.getrandbits(512):0128x}",
                    format_time(issued_at + timedelta(days=30)),
                    format_time(issued_at),
                    format_time(revoked) if revoked else None,
                )


def _attempts(sample: Sample, users: Sequence[User]) -> Iterator[tuple[object, ...]]:
    """Yield the sign-in attempts of the last day; the app stores no older ones."""
    attempts: list[tuple[datetime, str, str, int]] = []
    for user in users:
        rng = rng_for(sample.seed, "attempts", user.id)
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
    for attempted_at, username, address, success in sorted(attempts):
        yield username, address, success, format_time(attempted_at)


def _settings(sample: Sample, users: Iterable[User]) -> Iterator[tuple[object, ...]]:
    for user in users:
        rng = rng_for(sample.seed, "settings", user.id)
        values = {
            "theme_mode": rng.choice(("dark", "dark", "light", "system")),
            "primary_color": rng.choice(COLORS),
        }
        if happens(rng, 0.4):
            values["card_size"] = rng.choice(("small", "medium", "large"))
        if happens(rng, 0.3):
            values["view_mode"] = rng.choice(("grid", "list"))
        if happens(rng, 0.2):
            values["sidebar_collapsed"] = rng.choice(("true", "false"))
        if user.id > 1 and happens(rng, 0.1):  # created by an admin: the app adds no settings for these users
            continue
        for key, value in values.items():
            yield user.id, key, value, format_time(user.created), format_time(user.seen or user.created)
