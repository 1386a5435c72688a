"""Messages and campaigns of the sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.demo.random import Progress, batches, happens, zipf_rank
from dbctl.demo.waqtor.sample import Sample, insert
from dbctl.demo.waqtor.users import RECIPIENTS, User, phone_number, session_id
from dbctl.demo.words import ADJECTIVES, NOUNS
from dbctl.engines.contract import Writable

#: The status of a message, its acknowledgement code, and their percentage.
STATES = (
    ("sent", 1, 50), ("delivered", 2, 20), ("read", 3, 22), ("failed", -1, 5), ("pending", 0, 3),
)  # fmt: skip
TEXTS = (
    "Hello {name}, your {thing} is ready.",
    "Our {thing} is 20% off until Friday!",
    "Danke für die Bestellung: {thing} 🎉",
    "Can we move the {thing} to Monday?",
    "مرحبا {name}",
)
CAMPAIGN_STATES = ("completed", "completed", "completed", "draft", "scheduled", "paused", "failed")


def fill_traffic(
    db: Writable, sample: Sample, users: Sequence[User], progress: Progress | None
) -> dict[str, int]:
    """Create messages and campaigns, and return the numbers of rows."""
    senders = [user for user in users if user.sends]
    for batch in batches(range(sample.messages), progress):
        insert(db, sample, "messages", (_message(sample, senders, number) for number in batch))
    campaigns = insert(db, sample, "campaigns", _campaigns(sample, senders))
    insert(db, sample, "campaign_recipients", _campaign_recipients(sample, senders))
    return {"messages": sample.messages, "campaigns": campaigns}


def _message(sample: Sample, senders: Sequence[User], number: int) -> Sequence[object]:
    rng = sample.rng_for("message", number)
    sender = senders[zipf_rank(rng, len(senders))]
    status, code, _ = rng.choices(STATES, [share for *_, share in STATES])[0]
    at = max(sender.created, sample.ago(180 * rng.random() ** 2))
    to = phone_number(sample, sender, zipf_rank(rng, RECIPIENTS))
    subject = f"{rng.choice(ADJECTIVES).lower()} {rng.choice(NOUNS).lower()}"
    text = rng.choice(TEXTS).format(name="Kim", thing=subject)
    is_reply = happens(rng, 0.15)
    return (
        sample.create_id("message", number),
        session_id(sample, sender),
        sender.id,
        f"true_{to}@c.us_{number:08X}",
        f"{to}@c.us" if happens(rng, 0.2) else to,
        f"{to}@c.us" if is_reply else None,
        text,
        "delivered" if is_reply else status,
        code,
        "incoming" if is_reply else "outgoing",
        happens(rng, 0.05),
        None if is_reply or status == "pending" else at,
        at,
        at,
    )


def _campaigns(sample: Sample, senders: Sequence[User]) -> Iterator[Sequence[object]]:
    for sender in senders[::2]:
        rng = sample.rng_for("campaign", sender.number)
        status = rng.choice(CAMPAIGN_STATES)
        at = max(sender.created, sample.ago(rng.random() * 120))
        started_at = at if status in ("completed", "paused", "failed") else None
        sent = {"completed": RECIPIENTS, "paused": RECIPIENTS // 2}.get(status, 0)
        yield (
            sample.create_id("campaign", sender.number),
            session_id(sample, sender),
            sender.id,
            f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}",
            "Hello {{name}}, here is our news!",
            status,
            RECIPIENTS,
            sent,
            RECIPIENTS if status == "failed" else 0,
            started_at,
            started_at if status in ("completed", "failed") else None,
            at,
            at,
        )


def _campaign_recipients(sample: Sample, senders: Sequence[User]) -> Iterator[Sequence[object]]:
    for sender in senders[::2]:
        at = max(sender.created, sample.ago(100))
        for number in range(RECIPIENTS):
            failed = happens(sample.rng_for("delivery", sender.number, number), 0.1)
            yield (
                sample.create_id("delivery", sender.number, number),
                sample.create_id("campaign", sender.number),
                sample.create_id("recipient", sender.number, number),
                "failed" if failed else "sent",
                "the number is not on WhatsApp" if failed else None,
                None if failed else at,
                at,
                at,
            )
