"""The app's own database: roles, users, and what each of them has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from dbctl.demo import Account
from dbctl.demo.flashpoint_web.sample import Sample, insert, stamp
from dbctl.demo.random import Progress, batches, dice, hashed, likely
from dbctl.demo.words import NAMES, SURNAMES
from dbctl.engines.contract import Condition, Writable
from dbctl.model import Value

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

#: Which part of the users never signed in, from the newest account backwards; the next newest is locked out.
NEWCOMERS = 0.12

#: What the admin of the sample changed.
CHANGED_SETTINGS = (
    ("app", "siteName", "Sample Arcade"),
    ("auth", "maxLoginAttempts", "6"),
    ("game", "defaultVolume", "0.8"),
)
COLORS = ("blue", "green", "purple", "rose", "amber", "teal", "slate")

#: The columns that the sample fills, in the order in which its rows are made.
COLUMNS = {
    "role_permissions": "role_id permission_id created_at",
    "users": "id username email password_hash role_id is_active created_at updated_at last_login_at",
    "refresh_tokens": "user_id token expires_at created_at revoked_at",
    "login_attempts": "username ip_address success attempted_at",
    "user_settings": "user_id setting_key setting_value created_at updated_at",
}


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


def people_of(sample: Sample) -> list[Person]:
    """Return every user of the sample, a few hundred bytes each."""
    return [_person(sample, number) for number in range(sample.users)]


def fill_people(db: Writable, sample: Sample, people: Sequence[Person], progress: Progress | None) -> int:
    """Make the people and what each of them has; return how many sign-in tokens."""
    _age_defaults(db, sample)
    _add_people(db, sample, people, progress)
    tokens = insert(db, COLUMNS, "refresh_tokens", _tokens(sample, people))
    insert(db, COLUMNS, "login_attempts", _attempts(sample, people))
    insert(db, COLUMNS, "user_settings", _settings(sample, people))
    return tokens


def _age_defaults(db: Writable, sample: Sample) -> None:
    installed = stamp(sample.ago(1000))
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
    insert(db, COLUMNS, "role_permissions", ((ROLES["moderator"], key, installed) for (key,) in granted))


def _add_people(db: Writable, sample: Sample, people: Sequence[Person], progress: Progress | None) -> None:
    common = hashed(sample.seed, COMMON_PASSWORD, COMMON_COST)
    hashes = [hashed(sample.seed, account.password, COST) for account in ACCOUNTS]
    for batch in batches(people, progress):
        insert(
            db,
            COLUMNS,
            "users",
            (
                (
                    person.id,
                    person.username,
                    f"{person.username}@flashpoint.example",
                    hashes[person.id - 1] if person.id <= len(hashes) else common,
                    ROLES[person.role],
                    int(person.active),
                    stamp(person.created),
                    stamp(person.created),
                    stamp(person.seen) if person.seen else None,
                )
                for person in batch
            ),
        )
    for category, key, value in CHANGED_SETTINGS:
        db.update(
            "system_settings",
            {"value": value, "updated_at": stamp(sample.ago(40)), "updated_by": 1},
            [Condition("category", "=", category), Condition("key", "=", key)],
        )


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
                    stamp(moment + timedelta(days=30)),
                    stamp(moment),
                    stamp(revoked) if revoked else None,
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
        yield username, address, success, stamp(moment)


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
            yield person.id, key, value, stamp(person.created), stamp(person.seen or person.created)
