"""The rows of the sample, as the app itself would store them in the database at hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from dbctl.demo.promptvault.users import ACCOUNTS, COMMON_PASSWORD, TEAMS, Person, cuid, people
from dbctl.demo.random import Progress, batches, dice, hashed, likely, ranked
from dbctl.demo.words import ADJECTIVES, NOUNS
from dbctl.engines.contract import Writable
from dbctl.model import Value
from dbctl.profiles.model import Profile
from dbctl.services.app import Live

#: bcrypt cost of the named accounts (the app's own), and of the hash that all others share.
COST, COMMON_COST = 10, 4
TAGS = (
    "analysis", "code", "debugging", "design", "email", "english", "german", "ideas", "meeting", "planning", "python",
    "refactoring", "release", "research", "review", "sql", "summary", "support", "testing", "translation", "unused", "writing",
)  # fmt: skip
VERBS = (
    "Summarize",
    "Rewrite",
    "Explain",
    "Review",
    "Plan",
    "Translate",
    "Draft",
    "Compare",
    "Improve",
    "Outline",
)
THINGS = (
    "a meeting", "a pull request", "a release note", "an e-mail", "a contract", "a test plan", "a table", "a bug report",
    "an interview", "a lesson", "a query", "a recipe",
)  # fmt: skip
ASKS = (
    "Answer in short sentences.", "Keep names and numbers as they are.", "Say what is missing before you begin.",
    "Give three alternatives, the best first.", "Write for somebody who has never heard of it.", "Use a table where it helps.",
    "End with one question.", "Do not invent anything.",
)  # fmt: skip


class Sample(Value, frozen=True, kw_only=True):
    """What was asked for."""

    users: int
    prompts: int
    seed: int
    at: datetime


class Prompt(Value, frozen=True, kw_only=True):
    """One invented prompt, with what belongs to it."""

    id: str
    owner: Person
    title: str
    versions: Sequence[tuple[str, datetime]]  #: texts, the last the present one
    tags: Sequence[str]
    visibility: str
    shared: str | None
    rating: int | None


def fill(db: Writable, profile: Profile, sample: Sample, progress: Progress | None) -> dict[str, int]:
    """Fill an empty database inside the transaction that is open; return what was made."""
    teams = {name: cuid(dice(sample.seed, "team", name)) for name in TEAMS}
    tags = {name: cuid(dice(sample.seed, "tag", name)) for name in TAGS}
    installed = sample.at - timedelta(days=210)
    everybody = list(people(sample.seed, sample.at, sample.users, teams))
    into = _Into(db, profile)
    into("Settings", ["allowRegistration", "updatedAt"], [(True, installed)])
    into("Team", ["id", "name", "createdAt"], [(key, name, installed) for name, key in teams.items()])
    into("Tag", ["id", "name"], [(key, name) for name, key in tags.items()])
    _users(into, sample, everybody, progress)
    made = {"users": len(everybody), "prompts": 0, "versions": 0, "ratings": 0}
    for batch in batches((_prompt(sample, everybody, number) for number in range(sample.prompts)), progress):
        for word, number in _prompts(into, batch, tags, sample).items():
            made[word] += number
    return made | {"teams": len(teams), "tags": len(tags)}


class _Into:
    """Inserts rows, each value in the form that its column has here."""

    def __init__(self, db: Writable, profile: Profile) -> None:
        self._db, self._profile = db, profile

    def __call__(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        live = Live(self._profile, self._db, table, "the sample")
        encoded = (
            [live.encode(name, value) for name, value in zip(columns, row, strict=True)] for row in rows
        )
        return self._db.insert_many(table, columns, encoded)


def _users(into: _Into, sample: Sample, everybody: Sequence[Person], progress: Progress | None) -> None:
    common = hashed(sample.seed, COMMON_PASSWORD, COMMON_COST)
    own = [hashed(sample.seed, account.password, COST) for account in ACCOUNTS]
    columns = ["id", "email", "password", "name", "team", "role", "createdAt", "updatedAt"]
    hashes = [*own, *([common] * (len(everybody) - len(own)))]
    for batch in batches(zip(everybody, hashes, strict=True), progress):
        into(
            "User",
            columns,
            [
                (one.id, one.email, kept, one.name, one.team, one.role, one.created, one.created)
                for one, kept in batch
            ],
        )


def _prompt(sample: Sample, everybody: Sequence[Person], number: int) -> Prompt:
    chance = dice(sample.seed, "prompt", number)
    owner = everybody[ranked(chance, len(everybody))]
    title = f"{chance.choice(VERBS)} {chance.choice(THINGS)} about the {chance.choice(ADJECTIVES)} {chance.choice(NOUNS)}"
    begun = owner.created + (sample.at - owner.created) * chance.random()
    asks = chance.sample(ASKS, 4)
    times = sorted(begun + (sample.at - begun) * chance.random() for _ in range(ranked(chance, 5)))
    versions = [
        (f"{title}. {' '.join(asks[: 1 + place])}", moment)
        for place, moment in enumerate([begun, *times][:4])
    ]
    shared = likely(chance, 0.1)
    return Prompt(
        id=cuid(chance),
        owner=owner,
        title=title,
        versions=versions,
        tags=sorted({TAGS[ranked(chance, len(TAGS))] for _ in range(chance.randrange(5))} - {"unused"}),
        visibility="TEAM" if likely(chance, 0.4) else "PRIVATE",
        shared="share_" + cuid(chance)[1:10] if shared else None,
        rating=5 - ranked(chance, 5) if likely(chance, 0.35) else None,
    )


def _prompts(into: _Into, batch: Sequence[Prompt], tags: Mapping[str, str], sample: Sample) -> dict[str, int]:
    into(
        "Prompt",
        [
            "id", "title", "body", "variables", "notes", "modelHints", "visibility", "userId", "createdAt", "updatedAt",
            "isPubliclyShared", "publicShareId",
        ],
        (
            (
                one.id, one.title, one.versions[-1][0], '["topic"]' if len(one.tags) > 1 else None, None, None,
                one.visibility, one.owner.id, one.versions[0][1], one.versions[-1][1], one.shared is not None, one.shared,
            )
            for one in batch
        ),
    )  # fmt: skip
    versions = into(
        "PromptVersion",
        ["id", "promptId", "title", "body", "notes", "createdAt"],
        (
            (cuid(dice(sample.seed, "version", one.id, place)), one.id, one.title, text, None, moment)
            for one in batch
            for place, (text, moment) in enumerate(one.versions)
        ),
    )
    into("PromptTag", ["promptId", "tagId"], ((one.id, tags[tag]) for one in batch for tag in one.tags))
    ratings = into("Rating", ["id", "value", "promptId", "userId", "createdAt"], _ratings(batch, sample))
    return {"prompts": len(batch), "versions": versions, "ratings": ratings}


def _ratings(batch: Sequence[Prompt], sample: Sample) -> Iterator[Sequence[object]]:
    """Yield the ratings; only its owner rates a prompt."""
    for one in batch:
        if one.rating is not None:
            key = cuid(dice(sample.seed, "rating", one.id))
            yield key, one.rating, one.id, one.owner.id, one.versions[-1][1]
