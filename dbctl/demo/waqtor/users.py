"""Users of the sample, and what each of them has: numbers on WhatsApp, recipients in groups, subscriptions, sign-ins."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256

from dbctl.demo import Account
from dbctl.demo.random import Progress, batches, hashed, likely
from dbctl.demo.waqtor.sample import FEATURES, Sample, insert
from dbctl.demo.words import NAMES, NOUNS, SURNAMES
from dbctl.engines.contract import Writable
from dbctl.model import Value

ACCOUNTS = (
    Account(login="admin@waqtor.example", password="sample-admin", role="admin"),  # noqa: S106 - public, guards nothing
    Account(login="user@waqtor.example", password="sample-user", role="user"),  # noqa: S106 - as above
    Account(login="viewer@waqtor.example", password="sample-viewer", role="viewer"),  # noqa: S106 - as above
)
COMMON_PASSWORD = "sample-password"  # noqa: S105 - as above
#: bcrypt cost of the named accounts (the app's own), and of the hash that all others share.
COST, COMMON_COST = 10, 4
TAGS = ("vip", "newsletter", "2025", "to call", "partner")
RECIPIENTS, GROUPS = 12, 3
COLORS = ("#3B82F6", "#10B981", "#F59E0B", "#EF4444")


class Person(Value, frozen=True, kw_only=True):
    """One invented user."""

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
        """Whether they send messages."""
        return self.role != "viewer" and self.active


def people_of(sample: Sample) -> list[Person]:
    """Return every user of the sample."""
    return [_person(sample, number) for number in range(sample.users)]


def _person(sample: Sample, number: int) -> Person:
    chance = sample.dice("person", number)
    first, last = chance.choice(NAMES), chance.choice(SURNAMES)
    account = ACCOUNTS[number] if number < len(ACCOUNTS) else None
    age = 1 + 300 * (1 - number / max(sample.users, 1))
    return Person(
        number=number,
        id=sample.id("user", number),
        email=account.login if account else f"{first}.{last}{number}@mail.example",
        name=f"{first.capitalize()} {last.capitalize()}",
        role=account.role if account else ("viewer" if likely(chance, 0.15) else "user"),
        active=bool(account) or likely(chance, 0.92),
        created=sample.ago(age),
        seen=sample.ago(chance.random() * min(age, 60)) if account or likely(chance, 0.85) else None,
    )


def session_of(sample: Sample, person: Person) -> str:
    """Return the id of the WhatsApp session by which a person sends."""
    return sample.id("session", person.number)


def phone(sample: Sample, person: Person, recipient: int) -> str:
    """Return the number of one of a person's recipients."""
    return f"49151{sample.dice('phone', person.number, recipient).randrange(10**7):07d}{recipient:02d}"


def fill_people(
    db: Writable, sample: Sample, people: Sequence[Person], progress: Progress | None
) -> dict[str, int]:
    """Make the people and what each of them has; return how many rows of what."""
    common = hashed(sample.seed, COMMON_PASSWORD, COMMON_COST)
    own = [hashed(sample.seed, account.password, COST) for account in ACCOUNTS]
    for batch in batches(people, progress):
        insert(
            db,
            sample,
            "users",
            (
                (
                    one.id,
                    one.email,
                    own[one.number] if one.number < len(own) else common,
                    one.name,
                    one.role,
                    one.active,
                    one.seen,
                    one.created,
                    one.seen or one.created,
                )
                for one in batch
            ),
        )
    senders = [one for one in people if one.sends]
    insert(db, sample, "whatsapp_sessions", _sessions(sample, senders))
    recipients = insert(db, sample, "recipients", _recipients(sample, senders))
    groups = insert(db, sample, "groups", _groups(sample, senders))
    insert(db, sample, "recipient_groups", _members(sample, senders))
    insert(db, sample, "feature_subscriptions", _subscriptions(sample, people))
    insert(db, sample, "access_codes", _codes(sample, people[0]))
    insert(db, sample, "feature_access_logs", _logs(sample, people))
    insert(db, sample, "api_keys", _keys(senders, common))
    tokens = insert(db, sample, "refresh_tokens", _tokens(sample, people))
    made = {"users": len(people), "recipients": recipients, "groups": groups}
    return {**made, "tokens": tokens} if sample.has("refresh_tokens") else made


def _sessions(sample: Sample, senders: Sequence[Person]) -> Iterator[Sequence[object]]:
    for one in senders:
        chance = sample.dice("session", one.number)
        used = one.seen or one.created
        yield (
            session_of(sample, one),
            one.id,
            f"client-{one.number}",
            chance.choice(("Office", "Shop", "Support", None)),
            f"49160{chance.randrange(10**8):08d}",
            likely(chance, 0.85),
            likely(chance, 0.3),
            json.dumps({"device": chance.choice(NOUNS)}),
            used,
            one.created,
            used,
        )


def _recipients(sample: Sample, senders: Sequence[Person]) -> Iterator[Sequence[object]]:
    for one in senders:
        for number in range(RECIPIENTS):
            chance = sample.dice("recipient", one.number, number)
            first, last = chance.choice(NAMES), chance.choice(SURNAMES)
            yield (
                sample.id("recipient", one.number, number),
                one.id,
                phone(sample, one, number),
                f"{first.capitalize()} {last.capitalize()}",
                f"{first}@{last}.example" if likely(chance, 0.4) else None,
                f"{chance.choice(NOUNS)} & {chance.choice(NOUNS)}" if likely(chance, 0.3) else None,
                chance.sample(TAGS, chance.randrange(3)),
                json.dumps({"city": chance.choice(("Köln", "Cairo", "Lyon"))})
                if likely(chance, 0.5)
                else None,
                likely(chance, 0.95),
                one.created,
                one.created,
            )


def _groups(sample: Sample, senders: Sequence[Person]) -> Iterator[Sequence[object]]:
    for one in senders:
        for number, name in enumerate(("Customers", "Friends", "Team")[:GROUPS]):
            key = sample.id("group", one.number, number)
            yield key, one.id, name, f"{name} of {one.name}", COLORS[number], one.created, one.created


def _members(sample: Sample, senders: Sequence[Person]) -> Iterator[Sequence[object]]:
    for one in senders:
        for number in range(RECIPIENTS):
            group = sample.dice("member", one.number, number).randrange(GROUPS)
            yield (
                sample.id("member", one.number, number),
                sample.id("recipient", one.number, number),
                sample.id("group", one.number, group),
                one.created,
            )


def _subscriptions(sample: Sample, people: Sequence[Person]) -> Iterator[Sequence[object]]:
    for one in people:
        chance = sample.dice("subscription", one.number)
        for feature in chance.sample(FEATURES, chance.randrange(3)):
            trial = likely(chance, 0.4)
            begun = max(one.created, sample.ago(chance.random() * 5))
            ends = sample.ago(-30 - chance.random() * 300)
            kind = ("trial", "free") if trial else ("active", "premium")
            yield (one.id, feature, *kind, begun, None if trial else ends, ends if trial else None, begun, begun)  # fmt: skip


def _codes(sample: Sample, admin: Person) -> Iterator[Sequence[object]]:
    for feature in FEATURES[:3]:
        code = sha256(f"{sample.seed}/{feature}".encode()).hexdigest()
        yield feature, code, "premium", 10, admin.id, admin.created, admin.created


def _logs(sample: Sample, people: Sequence[Person]) -> Iterator[Sequence[object]]:
    for one in people:
        chance = sample.dice("log", one.number)
        for _ in range(chance.randrange(4)):
            kind = chance.choice((("view", "allowed"), ("usage", "allowed"), ("unlock_failed", "blocked")))
            at = max(one.created, sample.ago(chance.random() * 90))
            yield one.id, chance.choice(FEATURES), *kind, f"192.0.2.{chance.randrange(1, 255)}", at


def _keys(senders: Sequence[Person], stored: str) -> Iterator[Sequence[object]]:
    for one in senders[::5]:
        prefix = f"waq_{one.number:04x}"  # the app finds a key by its prefix alone, so each has its own
        yield one.id, "Website", stored, prefix, json.dumps(["send"]), one.created, one.created


def _tokens(sample: Sample, people: Sequence[Person]) -> Iterator[Sequence[object]]:
    for one in people:
        if one.seen is None:
            continue
        chance = sample.dice("token", one.number)
        for number in range(1 + chance.randrange(3)):
            begun = max(one.created, sample.ago((sample.at - one.seen).total_seconds() / 86_400 + number * 7))
            token = sha256(f"{sample.seed}/{one.number}/{number}".encode()).hexdigest()
            ends = begun + (sample.at - sample.ago(30))
            address = f"192.0.2.{chance.randrange(1, 255)}"
            yield one.id, token, ends, bool(number), address, "Firefox", begun, begun
