"""The rows of the sample, in the format that the app uses with the engine of the database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from dbctl.demo.promptvault.users import ACCOUNTS, COMMON_PASSWORD, TEAMS, User, create_users, cuid
from dbctl.demo.random import Progress, batches, happens, hash_password, rng_for, zipf_rank
from dbctl.demo.words import ADJECTIVES, NOUNS
from dbctl.engines.contract import Writable
from dbctl.model import Struct
from dbctl.profiles.model import Profile
from dbctl.services.app import LiveTable

#: bcrypt cost of the named accounts (as in the app), and of the hash that all other users share.
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
DOCUMENTS = (
    "a meeting", "a pull request", "a release note", "an e-mail", "a contract", "a test plan", "a table", "a bug report",
    "an interview", "a lesson", "a query", "a recipe",
)  # fmt: skip
INSTRUCTIONS = (
    "Answer in short sentences.", "Keep names and numbers as they are.", "Say what is missing before you begin.",
    "Give three alternatives, the best first.", "Write for a reader who is new to the subject.", "Use a table where it helps.",
    "End with one question.", "Do not invent anything.",
)  # fmt: skip


class Sample(Struct, frozen=True, kw_only=True):
    """The options of the sample."""

    users: int
    prompts: int
    seed: int
    at: datetime


class Prompt(Struct, frozen=True, kw_only=True):
    """One generated prompt with its related rows."""

    id: str
    owner: User
    title: str
    versions: Sequence[tuple[str, datetime]]  #: texts with their times; the last one is current
    tags: Sequence[str]
    visibility: str
    shared: str | None
    rating: int | None


def fill(db: Writable, profile: Profile, sample: Sample, progress: Progress | None) -> dict[str, int]:
    """Fill an empty database in the open transaction; return the numbers of rows."""
    teams = {name: cuid(rng_for(sample.seed, "team", name)) for name in TEAMS}
    tags = {name: cuid(rng_for(sample.seed, "tag", name)) for name in TAGS}
    installed = sample.at - timedelta(days=210)
    users = list(create_users(sample.seed, sample.at, sample.users, teams))
    insert = _Inserter(db, profile)
    insert("Settings", ["allowRegistration", "updatedAt"], [(True, installed)])
    insert("Team", ["id", "name", "createdAt"], [(key, name, installed) for name, key in teams.items()])
    insert("Tag", ["id", "name"], [(key, name) for name, key in tags.items()])
    _users(insert, sample, users, progress)
    row_counts = {"users": len(users), "prompts": 0, "versions": 0, "ratings": 0}
    for batch in batches((_prompt(sample, users, count) for count in range(sample.prompts)), progress):
        for table, count in _prompts(insert, batch, tags, sample).items():
            row_counts[table] += count
    return row_counts | {"teams": len(teams), "tags": len(tags)}


class _Inserter:
    """Writer of rows, with each value encoded for its column."""

    def __init__(self, db: Writable, profile: Profile) -> None:
        self._db, self._profile = db, profile

    def __call__(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        live_table = LiveTable(self._profile, self._db, table, "the sample")
        encoded = (
            [live_table.encode(name, value) for name, value in zip(columns, row, strict=True)] for row in rows
        )
        return self._db.insert_many(table, columns, encoded)


def _users(insert: _Inserter, sample: Sample, users: Sequence[User], progress: Progress | None) -> None:
    common_hash = hash_password(sample.seed, COMMON_PASSWORD, COMMON_COST)
    account_hashes = [hash_password(sample.seed, account.password, COST) for account in ACCOUNTS]
    columns = ["id", "email", "password", "name", "team", "role", "createdAt", "updatedAt"]
    hashes = [*account_hashes, *([common_hash] * (len(users) - len(account_hashes)))]
    for batch in batches(zip(users, hashes, strict=True), progress):
        insert(
            "User",
            columns,
            [
                (
                    user.id,
                    user.email,
                    password_hash,
                    user.name,
                    user.team,
                    user.role,
                    user.created,
                    user.created,
                )
                for user, password_hash in batch
            ],
        )


def _prompt(sample: Sample, users: Sequence[User], number: int) -> Prompt:
    rng = rng_for(sample.seed, "prompt", number)
    owner = users[zipf_rank(rng, len(users))]
    title = (
        f"{rng.choice(VERBS)} {rng.choice(DOCUMENTS)} about the {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    )
    created_at = owner.created + (sample.at - owner.created) * rng.random()
    instructions = rng.sample(INSTRUCTIONS, 4)
    version_times = sorted(
        created_at + (sample.at - created_at) * rng.random() for _ in range(zipf_rank(rng, 5))
    )
    versions = [
        (f"{title}. {' '.join(instructions[: 1 + index])}", version_at)
        for index, version_at in enumerate([created_at, *version_times][:4])
    ]
    is_shared = happens(rng, 0.1)
    return Prompt(
        id=cuid(rng),
        owner=owner,
        title=title,
        versions=versions,
        tags=sorted({TAGS[zipf_rank(rng, len(TAGS))] for _ in range(rng.randrange(5))} - {"unused"}),
        visibility="TEAM" if happens(rng, 0.4) else "PRIVATE",
        shared="share_" + cuid(rng)[1:10] if is_shared else None,
        rating=5 - zipf_rank(rng, 5) if happens(rng, 0.35) else None,
    )


def _prompts(
    insert: _Inserter, batch: Sequence[Prompt], tags: Mapping[str, str], sample: Sample
) -> dict[str, int]:
    insert(
        "Prompt",
        [
            "id", "title", "body", "variables", "notes", "modelHints", "visibility", "userId", "createdAt", "updatedAt",
            "isPubliclyShared", "publicShareId",
        ],
        (
            (
                prompt.id, prompt.title, prompt.versions[-1][0], '["topic"]' if len(prompt.tags) > 1 else None, None, None,
                prompt.visibility, prompt.owner.id, prompt.versions[0][1], prompt.versions[-1][1], prompt.shared is not None, prompt.shared,
            )
            for prompt in batch
        ),
    )  # fmt: skip
    versions = insert(
        "PromptVersion",
        ["id", "promptId", "title", "body", "notes", "createdAt"],
        (
            (
                cuid(rng_for(sample.seed, "version", prompt.id, index)),
                prompt.id,
                prompt.title,
                text,
                None,
                created_at,
            )
            for prompt in batch
            for index, (text, created_at) in enumerate(prompt.versions)
        ),
    )
    insert(
        "PromptTag",
        ["promptId", "tagId"],
        ((prompt.id, tags[tag]) for prompt in batch for tag in prompt.tags),
    )
    ratings = insert("Rating", ["id", "value", "promptId", "userId", "createdAt"], _ratings(batch, sample))
    return {"prompts": len(batch), "versions": versions, "ratings": ratings}


def _ratings(batch: Sequence[Prompt], sample: Sample) -> Iterator[Sequence[object]]:
    """Yield the ratings; each prompt is rated only by its owner."""
    for prompt in batch:
        if prompt.rating is not None:
            key = cuid(rng_for(sample.seed, "rating", prompt.id))
            yield key, prompt.rating, prompt.id, prompt.owner.id, prompt.versions[-1][1]
