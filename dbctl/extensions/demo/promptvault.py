"""The sample of PromptVault: users of a few teams, and half a year of their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random

from dbctl.extensions.demo.random import choose_name, choose_subject, happens, zipf_rank
from dbctl.extensions.demo.sample import RowWriter, Sample
from dbctl.model import Struct

LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


class User(Struct, frozen=True, kw_only=True):
    """The user who owns prompts."""

    id: str
    created: datetime


def fill_main(sample: Sample, rows: RowWriter) -> None:
    """Fill the database of the app."""
    installed = sample.ago(210)
    teams = {name: _cuid(sample.rng_for("team", name)) for name in sample.words["teams"]}
    tags = {name: _cuid(sample.rng_for("tag", name)) for name in sample.words["tags"]}
    rows.add("Settings", allowRegistration=True, updatedAt=installed)
    for name, key in teams.items():
        rows.add("Team", id=key, name=name, createdAt=installed)
    for name, key in tags.items():
        rows.add("Tag", id=key, name=name)
    users = [_user(sample, rows, number, list(teams.values())) for number in range(sample.counts["users"])]
    for number in range(sample.counts["prompts"]):
        _prompt(sample, rows, number, users, tags)


FILLS = {"main": fill_main}


def _cuid(rng: Random) -> str:
    """Return an id in the format of the app: ``c`` and 24 other characters."""
    return "c" + "".join(rng.choice(LETTERS) for _ in range(24))


def _user(sample: Sample, rows: RowWriter, number: int, teams: Sequence[str]) -> User:
    rng = sample.rng_for("person", number)
    first, last = choose_name(rng)
    account = sample.account(number)
    name = account.login.partition("@")[0].title() if account else f"{first.title()} {last.title()}"
    choices = [*teams, *teams, *sample.words["free_text_teams"]]
    team = rng.choice(choices) if happens(rng, 0.7) else None
    key, is_named = _cuid(rng), account is not None or happens(rng, 0.85)
    role = account.role if account else "ADMIN" if happens(rng, 0.04) else "USER"
    days = 200 - 150 * number / sample.counts["users"]
    created = sample.at - timedelta(days=days, seconds=rng.randrange(80_000))
    rows.add(
        "User",
        id=key,
        email=account.login if account else f"{first}.{last}{number}@promptvault.example",
        password=sample.password_hash(number),
        name=name if is_named else None,
        team=team,
        role=role,
        createdAt=created,
        updatedAt=created,
    )
    return User(id=key, created=created)


def _prompt(
    sample: Sample, rows: RowWriter, number: int, users: Sequence[User], tag_ids: dict[str, str]
) -> None:
    """Insert a prompt with its versions and tags; only its owner rates it."""
    rng, words = sample.rng_for("prompt", number), sample.words
    owner = users[zipf_rank(rng, len(users))]
    title = f"{rng.choice(words['verbs'])} {rng.choice(words['documents'])} about the {choose_subject(rng)}"
    created_at = owner.created + (sample.at - owner.created) * rng.random()
    instructions = rng.sample(words["instructions"], 4)
    changed_at = sorted(
        created_at + (sample.at - created_at) * rng.random() for _ in range(zipf_rank(rng, 5))
    )
    versions = [
        (f"{title}. {' '.join(instructions[: 1 + index])}", version_at)
        for index, version_at in enumerate([created_at, *changed_at][:4])
    ]
    body, updated_at = versions[-1]
    is_shared = happens(rng, 0.1)
    key = _cuid(rng)
    tags = {words["tags"][zipf_rank(rng, len(tag_ids))] for _ in range(rng.randrange(5))} - {"unused"}
    rows.add(
        "Prompt",
        id=key,
        title=title,
        body=body,
        variables='["topic"]' if len(tags) > 1 else None,
        notes=None,
        modelHints=None,
        visibility="TEAM" if happens(rng, 0.4) else "PRIVATE",
        userId=owner.id,
        createdAt=created_at,
        updatedAt=updated_at,
        isPubliclyShared=is_shared,
        publicShareId="share_" + _cuid(rng)[1:10] if is_shared else None,
    )
    for index, (text, version_at) in enumerate(versions):
        version = _cuid(sample.rng_for("version", key, index))
        values = {"title": title, "body": text, "notes": None, "createdAt": version_at}
        rows.add("PromptVersion", id=version, promptId=key, **values)
    for tag in sorted(tags):
        rows.add("PromptTag", promptId=key, tagId=tag_ids[tag])
    if happens(rng, 0.35):
        rating, value = _cuid(sample.rng_for("rating", key)), 5 - zipf_rank(rng, 5)
        rows.add("Rating", id=rating, value=value, promptId=key, userId=owner.id, createdAt=updated_at)
