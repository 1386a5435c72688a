"""The rules of the built-in profiles: each column that can hold personal data has one, in the schema of each application."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbctl.config.sections import Selection
from dbctl.extensions.copies.rules import DatabaseRules, resolve_rules
from dbctl.extensions.copies.section import find_entries
from dbctl.profiles import loader
from dbctl.services.app.session import open_app
from tests.databases import empty_database
from tests.engines import lance
from tests.profiles.apps.deployments import NAMES, fill, load_profile, read_expectations

#: Tables with content of each deployment, which a built-in profile cannot name.
CONTENT = {"strapi": ["articles"], "strapi-admin": ["articles"]}
CASES = [(name, engine) for name in NAMES for engine in read_expectations(name)["engines"]]


#: Profile, database and engine of the applications whose migrations dbctl ships, and the variant of their schema.
SHIPPED = [
    ("waqtor", "main", "postgresql", "deployed"),
    ("waqtor", "legacy", "sqlite", ""),
    ("promptvault", "main", "postgresql", "deployed"),
    ("promptvault", "main", "sqlite", "document"),
    ("flashpoint-web", "user", "sqlite", "deployed"),
    ("flashpoint-web", "user", "sqlite", "document"),
    ("chat-lancedb", "chat", "sqlite", "deployed"),
    ("yaai", "app", "sqlite", "document"),
    ("yaai", "chat", "sqlite", "deployed"),
    ("yaai", "code", "sqlite", ""),
    ("yaai", "imagegen", "sqlite", ""),
    ("yaai", "memory", "sqlite", ""),
]


def resolve(name: str, url: str, database: str = "main") -> DatabaseRules:
    with open_app(Selection(profile=name, urls=[f"{database}={url}"]), timeout=5) as app:
        return resolve_rules(app, database, app.reader(database))


def list_unused_entries(name: str, rules: DatabaseRules, database: str = "main") -> list[str]:
    """Return the entries of columns whose table is emptied by another statement of the profile."""
    columns = find_entries(loader.load(name), database).columns
    return [path for path in columns if rules.tables.get(path.rpartition(".")[0]) == "empty"]


@pytest.mark.parametrize(("name", "database", "engine", "variant"), SHIPPED)
def test_each_column_that_shipped_migrations_create_has_a_rule(name: str, database: str, engine: str, variant: str, tmp_path: Path, answer: Callable[..., Any]) -> None:  # fmt: skip
    with empty_database(engine, tmp_path / "app.db") as empty:
        options = ["--variant", variant] if variant else []
        selection = ["--profile", name, "--url", f"{database}={empty.url}", "--db", database]
        answer(*selection, "migrate", "up", "--no-backup", *options)
        rules = resolve(name, empty.url, database)
    assert rules.missing == []
    assert list_unused_entries(name, rules, database) == []


@pytest.mark.parametrize("deployed", [True, False])
def test_each_column_of_vectors_has_a_rule(deployed: bool, tmp_path: Path) -> None:
    lance.create_table(tmp_path, deployed=deployed)
    rules = resolve("chat-lancedb", f"lancedb:{tmp_path}", "vectors")
    assert rules.missing == []
    table = rules.tables["chat_embeddings"]
    assert table != "empty"
    vector, kinds = ("vector" if deployed else "embedding"), {name: rule.kind for name, rule in table.items()}
    assert (kinds["user_id"], kinds["content"], kinds["metadata"], kinds[vector]) == (
        "token",
        "text",
        "json",
        "null",
    )


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_each_column_of_an_application_has_a_rule(name: str, engine: str, tmp_path: Path) -> None:
    with empty_database(engine, tmp_path / "app.db") as database:
        fill(name, database)
        rules = resolve(name, database.url)
    content = CONTENT.get(name, [])
    assert [path for path in rules.missing if path.partition(".")[0] not in content] == []
    assert list_unused_entries(name, rules) == []
    users = load_profile(name).users
    if users and users.password and not users.only_app_sets_passwords:
        table = rules.tables[users.table]
        assert table != "empty"
        assert [table[column].kind for column in users.password.columns] == ["password"] * len(users.password.columns)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in loader.names() if name != "plain"])
def test_each_profile_has_rules(name: str) -> None:
    profile = loader.load(name)
    assert "anonymise" in profile.list_extension_sections()
