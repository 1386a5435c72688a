"""Users, chats and messages of the sample; messages of a topic have similar vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache
from math import sqrt
from random import Random

from dbctl.demo.random import happens, rng_for, uuid4, zipf_rank
from dbctl.demo.words import ADJECTIVES, NAMES, NOUNS, SURNAMES
from dbctl.model import Struct

#: Dimensions of the app's model.
DIMENSION = 768
#: Standard deviation of uniformly distributed bytes.
BYTE_STD_DEV = 73.9
MODEL = "gemini-2.5-flash"
#: Weight of the message in its vector (the topic has weight 1), so that messages of the same topic are nearest.
MESSAGE_WEIGHT = 0.55
#: Days of history.
DAYS = 120

#: By topic: titles of chats, questions, answers. ``{}`` is the subject of the chat.
TOPICS = {
    "python": (
        "Python: {}",
        ("How do I read a file called {} in Python?", "Why does my loop over {} never end?", "What is a generator, for {}?", "Can I sort {} by two keys?"),
        ("Open it with a context manager, and iterate over {} line by line.", "The list grows while you loop over it: copy {} first.", "A generator yields one item of {} at a time.", "Give sorted a key that returns a tuple for {}."),
    ),
    "garden": (
        "The {} bed",
        ("Which plants like the shade behind {}?", "When do I sow carrots next to {}?", "How often does {} need water?", "What eats the leaves of {}?"),
        ("Ferns and hostas grow well in the shade of {}.", "Sow them in April, a hand's breadth from {}.", "Water {} deeply once a week, in the morning.", "Slugs: go out at night with a torch, and look below {}."),
    ),
    "cooking": (
        "Dinner: {} stew",
        ("How long does {} soup have to simmer?", "What goes with {} and rice?", "My {} sauce is too salty, what now?", "Can I bake {} bread without yeast?"),
        ("Let the {} soup simmer for forty minutes, with the lid off.", "Lemon, dill and a little butter go with {}.", "Add a raw potato to the {} sauce and take it out again.", "Yes: baking soda and buttermilk raise {} bread."),
    ),
    "travel": (
        "A week at {}",
        ("Which train goes to {} in the morning?", "What should I see in {} in three days?", "Do I need a visa for {}?", "Where can one sleep cheaply near {}?"),
        ("The first train to {} leaves at 6:12 and has a restaurant.", "Walk through the old town of {}, and take the ferry on the second day.", "For stays of up to ninety days {} asks for none.", "The hostel behind the station of {} has single rooms."),
    ),
    "music": (
        "Practising {}",
        ("How do I play {} without watching my hands?", "Which chords are in {}?", "What tempo does {} have?", "How do I tune a guitar for {}?"),
        ("Play {} slowly, with your eyes closed, four bars at a time.", "It goes G, C and D, and an A minor in the bridge of {}.", "About 96 beats a minute; {} drags if it is slower.", "Tune the lowest string of the guitar down to D for {}."),
    ),
    "health": (
        "Sleep and {}",
        ("Why am I tired after {}?", "How many steps a day make up for {}?", "Does coffee before {} keep me awake?", "Which stretches help my back after {}?"),
        ("Your body works on while you rest after {}: drink, and go to bed early.", "Eight thousand steps are enough, with or without {}.", "Half of the caffeine is still there six hours after {}.", "Cat and cow, and a slow forward fold after {}."),
    ),
    "money": (
        "Saving for {}",
        ("How much should I save for {}?", "Is a loan for {} a good idea?", "What does inflation do to {}?", "How do I write a budget with {} in it?"),
        ("A tenth of what you earn, until {} is paid for.", "Only if {} will still be there when the loan is not.", "It takes about two percent of {} a year.", "List what comes in, what must go out, and {} last."),
    ),
    "space": (
        "How far is {}?",
        ("Why does {} not fall into the sun?", "Could one see {} with binoculars?", "How old is the light of {}?", "Who found {} first?"),
        ("It falls all the time, and moves sideways so fast that {} misses the sun.", "On a clear night {} is a faint smudge in binoculars.", "The light of {} left before there were people.", "Galileo drew {} in his notes without knowing what it was."),
    ),
}  # fmt: skip


class User(Struct, frozen=True, kw_only=True):
    """A generated user; registered users have an e-mail address."""

    id: str
    created: datetime
    seen: datetime
    email: str | None
    name: str | None
    anonymous_id: str | None  #: the id before registration


class Chat(Struct, frozen=True, kw_only=True):
    """One chat."""

    id: str
    owner: User
    topic: str
    subject: str
    title: str
    started_at: datetime
    messages: int


class Message(Struct, frozen=True, kw_only=True):
    """One message."""

    id: str
    chat: Chat
    role: str
    content: str
    at: datetime
    attachment: str | None  #: the name of a file


def create_anonymous_id(rng: Random) -> str:
    """Return the id of a browser without an account."""
    return "USER-" + "-".join(f"{rng.getrandbits(32):08X}" for _ in range(4))


def create_users(seed: int, at: datetime, number: int) -> list[User]:
    """Return the users, oldest first."""
    users = []
    for index in range(number):
        rng = rng_for(seed, "person", index)
        created = at - timedelta(days=DAYS - 100 * index / max(number, 1), seconds=rng.randrange(80_000))
        first, last = rng.choice(NAMES), rng.choice(SURNAMES)
        signed_in = happens(rng, 0.35)
        users.append(
            User(
                id=str(10**20 + rng.randrange(9 * 10**20)) if signed_in else create_anonymous_id(rng),
                created=created,
                seen=created + (at - created) * rng.random(),
                email=f"{first}.{last}{index}@chat.example" if signed_in else None,
                name=f"{first.title()} {last.title()}" if signed_in else None,
                anonymous_id=create_anonymous_id(rng) if signed_in and happens(rng, 0.5) else None,
            )
        )
    return users


def create_chats(seed: int, at: datetime, users: Sequence[User], number: int, messages: int) -> list[Chat]:
    """Return the chats with their numbers of messages."""
    chats = []
    shares = [1.0 / (1 + index % 7) for index in range(number)]
    total_share, share_so_far, message_count = sum(shares), 0.0, 0
    for index in range(number):
        rng = rng_for(seed, "chat", index)
        owner = users[zipf_rank(rng, len(users))]
        topic = list(TOPICS)[rng.randrange(len(TOPICS))]
        subject = f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
        share_so_far += shares[index]
        end_count = round(messages * share_so_far / total_share)
        chats.append(
            Chat(
                id=uuid4(rng),
                owner=owner,
                topic=topic,
                subject=subject,
                title=TOPICS[topic][0].format(subject),
                started_at=owner.created + (at - owner.created) * 0.95 * rng.random(),
                messages=end_count - message_count,
            )
        )
        message_count = end_count
    return chats


def create_messages(seed: int, at: datetime, chats: Sequence[Chat]) -> Iterator[Message]:
    """Yield the messages by chat: questions, each followed by an answer within seconds."""
    for chat in chats:
        rng = rng_for(seed, "messages", chat.id)
        timestamp = chat.started_at
        _, questions, answers = TOPICS[chat.topic]
        question_index = 0
        for index in range(chat.messages):
            is_question = index % 2 == 0
            if is_question:
                question_index = rng.randrange(len(questions))
            timestamp = min(
                at,
                timestamp + timedelta(seconds=rng.randrange(600) if is_question else rng.randrange(3)),
            )
            yield Message(
                id=uuid4(rng),
                chat=chat,
                role="user" if is_question else "assistant",
                content=(questions if is_question else answers)[question_index].format(chat.subject),
                at=timestamp,
                attachment=f"{chat.subject.lower().replace(' ', '-')}.png"
                if is_question and happens(rng, 0.06)
                else None,
            )


def create_vector(seed: int, message: Message) -> list[float]:
    """Return a vector of length 1, similar to the other vectors of the topic; equal texts have equal vectors."""
    noise = rng_for(seed, "vector", message.content).randbytes(DIMENSION)
    components = [
        base + MESSAGE_WEIGHT * (byte - 127.5) / BYTE_STD_DEV
        for base, byte in zip(_topic_vector(message.chat.topic), noise, strict=True)
    ]
    length = sqrt(sum(map(float.__mul__, components, components)))
    return [component / length for component in components]


@cache
def _topic_vector(name: str) -> list[float]:
    """Return the vector of a topic, equal in all samples."""
    return [(byte - 127.5) / BYTE_STD_DEV for byte in rng_for(0, "topic", name).randbytes(DIMENSION)]
