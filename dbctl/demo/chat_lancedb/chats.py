"""What people of the sample talk about: topics, whose messages have vectors that lie together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache
from math import sqrt
from random import Random

from dbctl.demo.random import dice, likely, ranked, uuid4
from dbctl.demo.words import ADJECTIVES, NAMES, NOUNS, SURNAMES
from dbctl.model import Value

#: Numbers in a vector, as the app's model makes them.
DIMENSION = 768
MODEL = "gemini-2.5-flash"
#: How much of a vector is its topic's, and how much the message's own: what is about the same lies nearest, in some order.
OWN = 0.55
#: Days that the sample reaches back.
DAYS = 120

#: Topic: what chats about it are called, what is asked, what is answered. ``{}`` is a thing of the chat.
TOPICS = {
    "python": (
        "Python: {}",
        ("How do I read a file called {} in Python?", "Why does my loop over {} never end?", "What is a generator, for {}?", "Can I sort {} by two keys?"),
        ("Open it with a context manager, and iterate over {} line by line.", "The list grows while you loop over it: copy {} first.", "A generator yields one item of {} at a time.", "Give sorted a key that returns a tuple for {}."),
    ),
    "garden": (
        "The {} bed",
        ("Which plants like the shade behind {}?", "When do I sow carrots beside {}?", "How often does {} want water?", "What eats the leaves of {}?"),
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
        ("How do I play {} without looking at my hands?", "Which chords are in {}?", "What tempo does {} have?", "How do I tune a guitar for {}?"),
        ("Play {} slowly, with your eyes closed, four bars at a time.", "It goes G, C and D, and an A minor in the bridge of {}.", "About 96 beats a minute; {} drags if it is slower.", "Tune the lowest string of the guitar down to D for {}."),
    ),
    "health": (
        "Sleep and {}",
        ("Why am I tired after {}?", "How many steps a day make up for {}?", "Does coffee before {} keep me awake?", "Which stretches help my back after {}?"),
        ("Your body works on while you rest after {}: drink, and go to bed early.", "Eight thousand steps are enough, with or without {}.", "Half of the caffeine is still there six hours after {}.", "Cat and cow, and a slow forward fold after {}."),
    ),
    "money": (
        "Saving for {}",
        ("How much should I put aside for {}?", "Is a loan for {} a good idea?", "What does inflation do to {}?", "How do I write a budget with {} in it?"),
        ("A tenth of what you earn, until {} is paid for.", "Only if {} will still be there when the loan is not.", "It takes about two percent of {} a year.", "List what comes in, what must go out, and {} last."),
    ),
    "space": (
        "How far is {}?",
        ("Why does {} not fall into the sun?", "Could one see {} with binoculars?", "How old is the light of {}?", "Who found {} first?"),
        ("It falls all the time, and moves sideways so fast that {} misses the sun.", "On a clear night {} is a faint smudge in binoculars.", "The light of {} left before there were people.", "Galileo drew {} in his notes without knowing what it was."),
    ),
}  # fmt: skip


class Person(Value, frozen=True, kw_only=True):
    """One invented user; one who has signed in has an address."""

    id: str
    created: datetime
    seen: datetime
    email: str | None
    name: str | None
    came_from: str | None  #: the id of before the account


class Talk(Value, frozen=True, kw_only=True):
    """One chat."""

    id: str
    owner: Person
    topic: str
    thing: str
    title: str
    began: datetime
    messages: int


class Said(Value, frozen=True, kw_only=True):
    """One message."""

    id: str
    talk: Talk
    role: str
    content: str
    at: datetime
    attachment: str | None  #: the name of a file


def anonymous(chance: Random) -> str:
    """Return an id as the app gives it to a browser."""
    return "USER-" + "-".join(f"{chance.getrandbits(32):08X}" for _ in range(4))


def people(seed: int, at: datetime, number: int) -> list[Person]:
    """Return the users, the first ones the longest there."""
    found = []
    for place in range(number):
        chance = dice(seed, "person", place)
        created = at - timedelta(days=DAYS - 100 * place / max(number, 1), seconds=chance.randrange(80_000))
        first, last = chance.choice(NAMES), chance.choice(SURNAMES)
        signed_in = likely(chance, 0.35)
        found.append(
            Person(
                id=str(10**20 + chance.randrange(9 * 10**20)) if signed_in else anonymous(chance),
                created=created,
                seen=created + (at - created) * chance.random(),
                email=f"{first}.{last}{place}@chat.example" if signed_in else None,
                name=f"{first.title()} {last.title()}" if signed_in else None,
                came_from=anonymous(chance) if signed_in and likely(chance, 0.5) else None,
            )
        )
    return found


def talks(seed: int, at: datetime, everybody: Sequence[Person], number: int, messages: int) -> list[Talk]:
    """Return the chats; the messages are shared out among them, every one has some where there are enough."""
    found = []
    shares = [1.0 / (1 + place % 7) for place in range(number)]
    whole, before, told = sum(shares), 0.0, 0
    for place in range(number):
        chance = dice(seed, "chat", place)
        owner = everybody[ranked(chance, len(everybody))]
        topic = list(TOPICS)[chance.randrange(len(TOPICS))]
        thing = f"{chance.choice(ADJECTIVES)} {chance.choice(NOUNS)}"
        before += shares[place]
        upto = round(messages * before / whole)
        found.append(
            Talk(
                id=uuid4(chance),
                owner=owner,
                topic=topic,
                thing=thing,
                title=TOPICS[topic][0].format(thing),
                began=owner.created + (at - owner.created) * 0.95 * chance.random(),
                messages=upto - told,
            )
        )
        told = upto
    return found


def messages(seed: int, at: datetime, among: Sequence[Talk]) -> Iterator[Said]:
    """Yield the messages, chat by chat: a question, its answer in the same second or a little later, and so on."""
    for talk in among:
        chance = dice(seed, "messages", talk.id)
        moment = talk.began
        _, asks, answers = TOPICS[talk.topic]
        which = 0
        for place in range(talk.messages):
            asked = place % 2 == 0
            if asked:
                which = chance.randrange(len(asks))
            moment = min(
                at, moment + timedelta(seconds=chance.randrange(600) if asked else chance.randrange(3))
            )
            yield Said(
                id=uuid4(chance),
                talk=talk,
                role="user" if asked else "assistant",
                content=(asks if asked else answers)[which].format(talk.thing),
                at=moment,
                attachment=f"{talk.thing.lower().replace(' ', '-')}.png"
                if asked and likely(chance, 0.06)
                else None,
            )


def vector(seed: int, said: Said) -> list[float]:
    """Return a vector of length 1 that lies near those of the same topic; the same text has the same vector."""
    own = dice(seed, "vector", said.content).randbytes(DIMENSION)
    told = [
        base + OWN * (byte - 127.5) / 73.9 for base, byte in zip(_topic(said.talk.topic), own, strict=True)
    ]
    length = sqrt(sum(map(float.__mul__, told, told)))
    return [one / length for one in told]


@cache
def _topic(name: str) -> list[float]:
    """Return the direction of a topic, which is the same in every sample."""
    return [(byte - 127.5) / 73.9 for byte in dice(0, "topic", name).randbytes(DIMENSION)]
