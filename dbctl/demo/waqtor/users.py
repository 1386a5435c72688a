"""Users of the sample with their rows: WhatsApp sessions, recipients in groups, subscriptions, sign-ins."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256

from dbctl.demo import Account
from dbctl.demo.random import Progress, batches, happens, hash_password
from dbctl.demo.waqtor.sample import FEATURES, Sample, insert
from dbctl.demo.words import NAMES, NOUNS, SURNAMES
from dbctl.engines.contract import Writable
from dbctl.model import Struct

ACCOUNTS = (
    Account(login="admin@waqtor.example", password="sample-admin", role="admin"),  # noqa: S106 - public, guards nothing
    Account(login="user@waqtor.example", password="sample-user", role="user"),  # noqa: S106 - a public password
    Account(login="viewer@waqtor.example", password="sample-viewer", role="viewer"),  # noqa: S106 - a public password
)
COMMON_PASSWORD = "sample-password"  # noqa: S105 - a public password
#: bcrypt cost of the named accounts (as in the app), and of the hash that all other users share.
COST, COMMON_COST = 10, 4
TAGS = ("vip", "newsletter", "2025", "to call", "partner")
RECIPIENTS, GROUPS = 12, 3
COLORS = ("#3B82F6", "#10B981", "#F59E0B", "#EF4444")


class User(Struct, frozen=True, kw_only=True):
    """One generated user."""

    number: int
    id: str
    email: str
    name: str
    role: str
    active: bool
    created: datetime
    seen: datetime | None

    @property
    def sends(self) -> bool:
        """Whether the user sends messages."""
        return self.role != "viewer" and self.active


def create_users(sample: Sample) -> list[User]:
    """Return all users of the sample."""
    return [_create_user(sample, number) for number in range(sample.users)]


def _create_user(sample: Sample, number: int) -> User:
    rng = sample.rng_for("person", number)
    first, last = rng.choice(NAMES), rng.choice(SURNAMES)
    account = ACCOUNTS[number] if number < len(ACCOUNTS) else None
    age = 1 + 300 * (1 - number / max(sample.users, 1))
    return User(
        number=number,
        id=sample.create_id("user", number),
        email=account.login if account else f"{first}.{last}{number}@mail.example",
        name=f"{first.capitalize()} {last.capitalize()}",
        role=account.role if account else ("viewer" if happens(rng, 0.15) else "user"),
        active=bool(account) or happens(rng, 0.92),
        created=sample.ago(age),
        seen=sample.ago(rng.random() * min(age, 60)) if account or happens(rng, 0.85) else None,
    )


def session_id(sample: Sample, user: User) -> str:
    """Return the id of the WhatsApp session of a user."""
    return sample.create_id("session", user.number)


def phone_number(sample: Sample, user: User, recipient: int) -> str:
    """Return the phone number of one of a user's recipients."""
    return f"49151{sample.rng_for('phone', user.number, recipient).randrange(10**7):07d}{recipient:02d}"


def fill_users(
    db: Writable, sample: Sample, users: Sequence[User], progress: Progress | None
) -> dict[str, int]:
    """Create the users with their rows, and return the numbers of rows."""
    common_hash = hash_password(sample.seed, COMMON_PASSWORD, COMMON_COST)
    account_hashes = [hash_password(sample.seed, account.password, COST) for account in ACCOUNTS]
    for batch in batches(users, progress):
        insert(
            db,
            sample,
            "users",
            (
                (
                    user.id,
                    user.email,
                    account_hashes[user.number] if user.number < len(account_hashes) else common_hash,
                    user.name,
                    user.role,
                    user.active,
                    user.seen,
                    user.created,
                    user.seen or user.created,
                )
                for user in batch
            ),
        )
    senders = [user for user in users if user.sends]
    insert(db, sample, "whatsapp_sessions", _sessions(sample, senders))
    recipients = insert(db, sample, "recipients", _recipients(sample, senders))
    groups = insert(db, sample, "groups", _groups(sample, senders))
    insert(db, sample, "recipient_groups", _members(sample, senders))
    insert(db, sample, "feature_subscriptions", _subscriptions(sample, users))
    insert(db, sample, "access_codes", _codes(sample, users[0]))
    insert(db, sample, "feature_access_logs", _logs(sample, users))
    insert(db, sample, "api_keys", _keys(senders, common_hash))
    tokens = insert(db, sample, "refresh_tokens", _tokens(sample, users))
    row_counts = {"users": len(users), "recipients": recipients, "groups": groups}
    return {**row_counts, "tokens": tokens} if sample.has_table("refresh_tokens") else row_counts


def _sessions(sample: Sample, senders: Sequence[User]) -> Iterator[Sequence[object]]:
    for user in senders:
        rng = sample.rng_for("session", user.number)
        last_used_at = user.seen or user.created
        yield (
            session_id(sample, user),
            user.id,
            f"client-{user.number}",
            rng.choice(("Office", "Shop", "Support", None)),
            f"49160{rng.randrange(10**8):08d}",
            happens(rng, 0.85),
            happens(rng, 0.3),
            json.dumps({"device": rng.choice(NOUNS)}),
            last_used_at,
            user.created,
            last_used_at,
        )


def _recipients(sample: Sample, senders: Sequence[User]) -> Iterator[Sequence[object]]:
    for user in senders:
        for number in range(RECIPIENTS):
            rng = sample.rng_for("recipient", user.number, number)
            first, last = rng.choice(NAMES), rng.choice(SURNAMES)
            yield (
                sample.create_id("recipient", user.number, number),
                user.id,
                phone_number(sample, user, number),
                f"{first.capitalize()} {last.capitalize()}",
                f"{first}@{last}.example" if happens(rng, 0.4) else None,
                f"{rng.choice(NOUNS)} & {rng.choice(NOUNS)}" if happens(rng, 0.3) else None,
                rng.sample(TAGS, rng.randrange(3)),
                json.dumps({"city": rng.choice(("Köln", "Cairo", "Lyon"))}) if happens(rng, 0.5) else None,
                happens(rng, 0.95),
                user.created,
                user.created,
            )


def _groups(sample: Sample, senders: Sequence[User]) -> Iterator[Sequence[object]]:
    for user in senders:
        for number, name in enumerate(("Customers", "Friends", "Team")[:GROUPS]):
            key = sample.create_id("group", user.number, number)
            yield (
                key,
                user.id,
                name,
                f"{name} of {user.name}",
                COLORS[number],
                user.created,
                user.created,
            )


def _members(sample: Sample, senders: Sequence[User]) -> Iterator[Sequence[object]]:
    for user in senders:
        for number in range(RECIPIENTS):
            group = sample.rng_for("member", user.number, number).randrange(GROUPS)
            yield (
                sample.create_id("member", user.number, number),
                sample.create_id("recipient", user.number, number),
                sample.create_id("group", user.number, group),
                user.created,
            )


def _subscriptions(sample: Sample, users: Sequence[User]) -> Iterator[Sequence[object]]:
    for user in users:
        rng = sample.rng_for("subscription", user.number)
        for feature in rng.sample(FEATURES, rng.randrange(3)):
            trial = happens(rng, 0.4)
            started_at = max(user.created, sample.ago(rng.random() * 5))
            ends = sample.ago(-30 - rng.random() * 300)
            kind = ("trial", "free") if trial else ("active", "premium")
            yield (user.id, feature, *kind, started_at, None if trial else ends, ends if trial else None, started_at, started_at)  # fmt: skip


def _codes(sample: Sample, admin: User) -> Iterator[Sequence[object]]:
    for feature in FEATURES[:3]:
        code = sha256(f"{sample.seed}/{feature}".encode()).hexdigest()
        yield feature, code, "premium", 10, admin.id, admin.created, admin.created


def _logs(sample: Sample, users: Sequence[User]) -> Iterator[Sequence[object]]:
    for user in users:
        rng = sample.rng_for("log", user.number)
        for _ in range(rng.randrange(4)):
            kind = rng.choice((("view", "allowed"), ("usage", "allowed"), ("unlock_failed", "blocked")))
            at = max(user.created, sample.ago(rng.random() * 90))
            yield user.id, rng.choice(FEATURES), *kind, f"192.0.2.{rng.randrange(1, 255)}", at


def _keys(senders: Sequence[User], key_hash: str) -> Iterator[Sequence[object]]:
    for user in senders[::5]:
        prefix = f"waq_{user.number:04x}"  # the app finds a key by its prefix, which must therefore be unique
        yield user.id, "Website", key_hash, prefix, json.dumps(["send"]), user.created, user.created


def _tokens(sample: Sample, users: Sequence[User]) -> Iterator[Sequence[object]]:
    for user in users:
        if user.seen is None:
            continue
        rng = sample.rng_for("token", user.number)
        for number in range(1 + rng.randrange(3)):
            started_at = max(
                user.created, sample.ago((sample.at - user.seen).total_seconds() / 86_400 + number * 7)
            )
            token = sha256(f"{sample.seed}/{user.number}/{number}".encode()).hexdigest()
            ends = started_at + (sample.at - sample.ago(30))
            address = f"192.0.2.{rng.randrange(1, 255)}"
            yield user.id, token, ends, bool(number), address, "Firefox", started_at, started_at
