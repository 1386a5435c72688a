"""The sample of WaQtor: users with their recipients and groups, and half a year of messages and campaigns.

Each row has the columns of deployments and those of the document, whose names differ in part.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from random import Random

from dbctl.extensions.demo.random import WORDS, choose_name, choose_subject, happens, uuid4, zipf_rank
from dbctl.extensions.demo.sample import RowWriter, Sample
from dbctl.model import Struct

#: The number of each user's recipients, and the groups to which they belong with their colors.
RECIPIENTS, GROUPS = 12, {"Customers": "#3B82F6", "Friends": "#10B981", "Team": "#F59E0B"}
UNREACHABLE = "the number is not on WhatsApp"


class User(Struct, frozen=True, kw_only=True):
    number: int
    id: str
    session: str  #: the id of the WhatsApp session
    email: str
    name: str
    role: str
    active: bool
    created: datetime
    seen: datetime | None

    @property
    def sends(self) -> bool:
        return self.role != "viewer" and self.active


def fill_main(sample: Sample, rows: RowWriter) -> None:
    """Fill the database of the app."""
    users = [_create_user(sample, number) for number in range(sample.counts["users"])]
    senders = [user for user in users if user.sends]
    for user in users:
        rows.add(
            "users",
            id=user.id,
            email=user.email,
            password_hash=sample.password_hash(user.number),
            name=user.name,
            role=user.role,
            is_active=user.active,
            last_login_at=user.seen,
            created_at=user.created,
            updated_at=user.seen or user.created,
        )
    for user in senders:
        _session(sample, rows, user)
        _recipients(sample, rows, user)
    for user in users:
        _subscriptions(sample, rows, user)
        _logs(sample, rows, user)
        _tokens(sample, rows, user)
    _keys(sample, rows, users[0], senders)
    for number in range(sample.counts["messages"]):
        _message(sample, rows, senders, number)
    for user in senders[::2]:
        _campaign(sample, rows, user)


FILLS = {"main": fill_main}


def _rng_for(sample: Sample, *key: str | int) -> Random:
    return sample.rng_for("waqtor", *key)


def _id(sample: Sample, *key: str | int) -> str:
    return uuid4(_rng_for(sample, "id", *key))


def _ago(sample: Sample, days: float) -> datetime:
    """Return the time this many days before the time of the sample, in whole milliseconds."""
    time = sample.ago(days)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def _phone_number(sample: Sample, user: User, recipient: int) -> str:
    number = _rng_for(sample, "phone", user.number, recipient).randrange(10**7)
    return f"49151{number:07d}{recipient:02d}"


def _create_user(sample: Sample, number: int) -> User:
    rng = _rng_for(sample, "person", number)
    first, last = choose_name(rng)
    account = sample.account(number)
    age = 1 + 300 * (1 - number / sample.counts["users"])
    return User(
        number=number,
        id=_id(sample, "user", number),
        session=_id(sample, "session", number),
        email=account.login if account else f"{first}.{last}{number}@mail.example",
        name=f"{first.capitalize()} {last.capitalize()}",
        role=account.role if account else ("viewer" if happens(rng, 0.15) else "user"),
        active=bool(account) or happens(rng, 0.92),
        created=_ago(sample, age),
        seen=_ago(sample, rng.random() * min(age, 60)) if account or happens(rng, 0.85) else None,
    )


def _session(sample: Sample, rows: RowWriter, user: User) -> None:
    rng = _rng_for(sample, "session", user.number)
    client, name = f"client-{user.number}", rng.choice(("Office", "Shop", "Support", None))
    phone_number = f"49160{rng.randrange(10**8):08d}"
    active, ready = happens(rng, 0.85), happens(rng, 0.3)
    last_used_at = user.seen or user.created
    rows.add(
        "whatsapp_sessions",
        id=user.session,
        user_id=user.id,
        client_id=client,
        name=name,
        session_name=name or client,  # required, and unique per user
        phone_number=phone_number,
        is_active=active,
        is_ready=ready,
        status=("ready" if ready else "connecting") if active else "disconnected",
        session_data=json.dumps({"device": rng.choice(WORDS["nouns"])}),
        last_active_at=last_used_at,
        created_at=user.created,
        updated_at=last_used_at,
    )


def _recipients(sample: Sample, rows: RowWriter, user: User) -> None:
    """Insert the recipients of a user, in groups."""
    group_ids = [_id(sample, "group", user.number, number) for number in range(len(GROUPS))]
    times = {"created_at": user.created, "updated_at": user.created}
    for group, (name, color) in zip(group_ids, GROUPS.items(), strict=True):
        description = f"{name} of {user.name}"
        rows.add(
            "groups", id=group, user_id=user.id, name=name, description=description, color=color, **times
        )
    for number in range(RECIPIENTS):
        rng = _rng_for(sample, "recipient", user.number, number)
        first, last = choose_name(rng)
        key, phone = _id(sample, "recipient", user.number, number), _phone_number(sample, user, number)
        rows.add(
            "recipients",
            id=key,
            user_id=user.id,
            phone=phone,
            phone_number=phone,
            name=f"{first.capitalize()} {last.capitalize()}",
            email=f"{first}@{last}.example" if happens(rng, 0.4) else None,
            company=f"{rng.choice(WORDS['nouns'])} & {rng.choice(WORDS['nouns'])}"
            if happens(rng, 0.3)
            else None,
            tags=rng.sample(sample.words["tags"], rng.randrange(3)),
            custom_fields=json.dumps({"city": rng.choice(("Köln", "Cairo", "Lyon"))})
            if happens(rng, 0.5)
            else None,
            is_active=(active := happens(rng, 0.95)),
            status="active" if active else "blocked",
            **times,
        )
        rows.add(
            "recipient_groups",
            id=_id(sample, "member", user.number, number),
            recipient_id=key,
            group_id=group_ids[_rng_for(sample, "member", user.number, number).randrange(len(GROUPS))],
            created_at=user.created,
        )


def _subscriptions(sample: Sample, rows: RowWriter, user: User) -> None:
    rng = _rng_for(sample, "subscription", user.number)
    for feature in rng.sample(sample.words["features"], rng.randrange(3)):
        trial = happens(rng, 0.4)
        started_at = max(user.created, _ago(sample, rng.random() * 5))
        ends = _ago(sample, -30 - rng.random() * 300)
        rows.add(
            "feature_subscriptions",
            user_id=user.id,
            feature_name=feature,
            status="trial" if trial else "active",
            subscription_type="free" if trial else "premium",
            start_date=started_at,
            end_date=None if trial else ends,
            trial_end_date=ends if trial else None,
            created_at=started_at,
            updated_at=started_at,
        )


def _logs(sample: Sample, rows: RowWriter, user: User) -> None:
    rng = _rng_for(sample, "log", user.number)
    for _ in range(rng.randrange(4)):
        access, status = rng.choice((("view", "allowed"), ("usage", "allowed"), ("unlock_failed", "blocked")))
        at = max(user.created, _ago(sample, rng.random() * 90))
        rows.add(
            "feature_access_logs",
            user_id=user.id,
            feature_name=rng.choice(sample.words["features"]),
            access_type=access,
            status=status,
            ip_address=f"192.0.2.{rng.randrange(1, 255)}",
            created_at=at,
        )


def _tokens(sample: Sample, rows: RowWriter, user: User) -> None:
    if user.seen is None:
        return
    rng, age = _rng_for(sample, "token", user.number), (sample.at - user.seen).total_seconds() / 86_400
    for number in range(1 + rng.randrange(3)):
        started_at = max(user.created, _ago(sample, age + number * 7))
        rows.add(
            "refresh_tokens",
            user_id=user.id,
            token=sha256(f"{sample.seed}/{user.number}/{number}".encode()).hexdigest(),
            expires_at=started_at + (sample.at - _ago(sample, 30)),
            is_revoked=bool(number),
            ip_address=f"192.0.2.{rng.randrange(1, 255)}",
            user_agent="Firefox",
            created_at=started_at,
            updated_at=started_at,
        )


def _keys(sample: Sample, rows: RowWriter, admin: User, senders: Sequence[User]) -> None:
    """Insert codes that unlock features, and keys of the app's API."""
    for feature in sample.words["features"][:3]:
        rows.add(
            "access_codes",
            feature_name=feature,
            code_hash=sha256(f"{sample.seed}/{feature}".encode()).hexdigest(),
            subscription_type="premium",
            max_uses=10,
            created_by=admin.id,
            created_at=admin.created,
            updated_at=admin.created,
        )
    for user in senders[::5]:
        rows.add(
            "api_keys",
            user_id=user.id,
            name="Website",
            key_hash=sample.common_hash,
            prefix=f"waq_{user.number:04x}",  # the app finds a key by its prefix, which must therefore be unique
            permissions=json.dumps(["send"]),
            created_at=user.created,
            updated_at=user.created,
        )


def _message(sample: Sample, rows: RowWriter, senders: Sequence[User], number: int) -> None:
    rng, states = _rng_for(sample, "message", number), sample.words["states"]
    sender = senders[zipf_rank(rng, len(senders))]
    status, code, _ = rng.choices(states, [share for *_, share in states])[0]
    at = max(sender.created, _ago(sample, 180 * rng.random() ** 2))
    to = _phone_number(sample, sender, zipf_rank(rng, RECIPIENTS))
    subject = choose_subject(rng).lower()
    text = rng.choice(sample.words["texts"]).format(name="Kim", thing=subject)
    is_reply = happens(rng, 0.15)
    recipient = f"{to}@c.us" if happens(rng, 0.2) else to
    has_media = happens(rng, 0.05)
    status = "delivered" if is_reply else status
    rows.add(
        "messages",
        id=_id(sample, "message", number),
        session_id=sender.session,
        user_id=sender.id,
        message_id=f"true_{to}@c.us_{number:08X}",
        to_phone=recipient,
        phone_number=recipient,
        from_phone=f"{to}@c.us" if is_reply else None,
        body=text,
        message_text=text,
        status=status,
        error_message=UNREACHABLE if status == "failed" else None,
        ack_code=code,
        ack_status=code,
        direction="incoming" if is_reply else "outgoing",
        has_media=has_media,
        media_type="image" if has_media else None,
        sent_at=None if is_reply or status == "pending" else at,
        created_at=at,
        updated_at=at,
    )


def _campaign(sample: Sample, rows: RowWriter, sender: User) -> None:
    rng, key = _rng_for(sample, "campaign", sender.number), _id(sample, "campaign", sender.number)
    status = rng.choice(sample.words["campaign_states"])
    at = max(sender.created, _ago(sample, rng.random() * 120))
    started_at = at if status in ("completed", "paused", "failed") else None
    rows.add(
        "campaigns",
        id=key,
        session_id=sender.session,
        user_id=sender.id,
        name=choose_subject(rng),
        message_template="Hello {{name}}, here is our news!",
        status=status,
        total_recipients=RECIPIENTS,
        sent_count={"completed": RECIPIENTS, "paused": RECIPIENTS // 2}.get(status, 0),
        failed_count=RECIPIENTS if status == "failed" else 0,
        started_at=started_at,
        completed_at=started_at if status in ("completed", "failed") else None,
        created_at=at,
        updated_at=at,
    )
    delivered_at = max(sender.created, _ago(sample, 100))
    for number in range(RECIPIENTS):
        failed = happens(_rng_for(sample, "delivery", sender.number, number), 0.1)
        rows.add(
            "campaign_recipients",
            id=_id(sample, "delivery", sender.number, number),
            campaign_id=key,
            recipient_id=_id(sample, "recipient", sender.number, number),
            status="failed" if failed else "sent",
            error_message=UNREACHABLE if failed else None,
            sent_at=None if failed else delivered_at,
            created_at=delivered_at,
            updated_at=delivered_at,
        )
