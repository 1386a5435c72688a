"""Messages and campaigns of the sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.demo.random import Progress, batches, likely, ranked
from dbctl.demo.waqtor.sample import Sample, insert
from dbctl.demo.waqtor.users import RECIPIENTS, Person, phone, session_of
from dbctl.demo.words import ADJECTIVES, NOUNS
from dbctl.engines.contract import Writable

#: The status of a message and its acknowledgement, as often as each comes.
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
    db: Writable, sample: Sample, people: Sequence[Person], progress: Progress | None
) -> dict[str, int]:
    """Make messages and campaigns; return how many rows of what."""
    senders = [one for one in people if one.sends]
    for batch in batches(range(sample.messages), progress):
        insert(db, sample, "messages", (_message(sample, senders, number) for number in batch))
    campaigns = insert(db, sample, "campaigns", _campaigns(sample, senders))
    insert(db, sample, "campaign_recipients", _campaign_recipients(sample, senders))
    return {"messages": sample.messages, "campaigns": campaigns}


def _message(sample: Sample, senders: Sequence[Person], number: int) -> Sequence[object]:
    chance = sample.dice("message", number)
    one = senders[ranked(chance, len(senders))]
    status, code, _ = chance.choices(STATES, [share for *_, share in STATES])[0]
    at = max(one.created, sample.ago(180 * chance.random() ** 2))
    to = phone(sample, one, ranked(chance, RECIPIENTS))
    thing = f"{chance.choice(ADJECTIVES).lower()} {chance.choice(NOUNS).lower()}"
    text = chance.choice(TEXTS).format(name="Kim", thing=thing)
    answer = likely(chance, 0.15)
    return (
        sample.id("message", number),
        session_of(sample, one),
        one.id,
        f"true_{to}@c.us_{number:08X}",
        f"{to}@c.us" if likely(chance, 0.2) else to,
        f"{to}@c.us" if answer else None,
        text,
        "delivered" if answer else status,
        code,
        "incoming" if answer else "outgoing",
        likely(chance, 0.05),
        None if answer or status == "pending" else at,
        at,
        at,
    )


def _campaigns(sample: Sample, senders: Sequence[Person]) -> Iterator[Sequence[object]]:
    for one in senders[::2]:
        chance = sample.dice("campaign", one.number)
        status = chance.choice(CAMPAIGN_STATES)
        at = max(one.created, sample.ago(chance.random() * 120))
        begun = at if status in ("completed", "paused", "failed") else None
        sent = {"completed": RECIPIENTS, "paused": RECIPIENTS // 2}.get(status, 0)
        yield (
            sample.id("campaign", one.number),
            session_of(sample, one),
            one.id,
            f"{chance.choice(ADJECTIVES)} {chance.choice(NOUNS)}",
            "Hello {{name}}, look at this!",
            status,
            RECIPIENTS,
            sent,
            RECIPIENTS if status == "failed" else 0,
            begun,
            begun if status in ("completed", "failed") else None,
            at,
            at,
        )


def _campaign_recipients(sample: Sample, senders: Sequence[Person]) -> Iterator[Sequence[object]]:
    for one in senders[::2]:
        at = max(one.created, sample.ago(100))
        for number in range(RECIPIENTS):
            failed = likely(sample.dice("delivery", one.number, number), 0.1)
            yield (
                sample.id("delivery", one.number, number),
                sample.id("campaign", one.number),
                sample.id("recipient", one.number, number),
                "failed" if failed else "sent",
                "the number is not on WhatsApp" if failed else None,
                None if failed else at,
                at,
                at,
            )
