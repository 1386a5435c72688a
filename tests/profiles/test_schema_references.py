"""The walk over the tables and columns that a profile names."""

from __future__ import annotations

import msgspec
import pytest

from dbctl.files import toml
from dbctl.profiles import loader
from dbctl.profiles.model.profile import Profile
from dbctl.profiles.schema_references import list_database_references, list_schema_references


def list_references(name: str) -> set[tuple[str, str, str, object, bool]]:
    profile = loader.load(name)
    return {
        (toml.dotted(entry.key), entry.database, entry.table, entry.column, entry.is_optional)
        for entry in list_schema_references(profile, next(iter(profile.databases)))
    }


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("flashpoint-web", ("users.table", "user", "users", None, False)),
        ("flashpoint-web", ("users.fields.email", "user", "users", "email", False)),
        ("flashpoint-web", ("users.id", "user", "users", "id", False)),  # the key is a section with a column
        ("flashpoint-web", ("users.role", "user", "users", "role_id", False)),  # not of the table of roles
        ("flashpoint-web", ("users.role.name", "user", "roles", "name", False)),
        ("flashpoint-web", ("search[0].words", "flashpoint", "game", "title", False)),
        ("flashpoint-web", ("cleanup[0].age.column", "user", "user_game_plays", "started_at", False)),
    ],
)
def test_reference_has_key_database_and_table(profile: str, expected: tuple[object, ...]) -> None:
    assert expected in list_references(profile)


@pytest.mark.parametrize("name", loader.names())
def test_every_reference_is_to_a_database_of_the_profile(name: str) -> None:
    profile = loader.load(name)
    references = list(list_schema_references(profile, next(iter(profile.databases))))
    assert {entry.database for entry in references} <= set(profile.databases)
    assert all(entry.table and entry.column != "" for entry in references)
    assert {database for _, database in list_database_references(profile)} <= set(profile.databases)


def test_each_table_of_a_row_path_is_required_unless_it_is_optional() -> None:
    values = {
        "schema": "dbctl.profile/1",
        "name": "p",
        "title": "P",
        "databases": {"main": {"engines": ["sqlite"]}},
        "users": {
            "table": "people",
            "id": {"column": "id"},
            "login": ["login"],
            "fields": {"login": "login"},
            "cascade": ["votes.post -> posts?[kind=text](key).author"],
            "retained": {"log.user": "history"},
        },
    }
    profile = msgspec.convert(values, Profile)
    references = [
        (toml.dotted(entry.key), entry.table, entry.column, entry.is_optional)
        for entry in list_schema_references(profile, "main")
        if entry.table != "people"
    ]
    assert references == [
        ("users.cascade[0]", "votes", None, False),
        ("users.cascade[0]", "votes", "post", False),
        ("users.cascade[0]", "posts", None, True),
        ("users.cascade[0]", "posts", "author", False),
        ("users.cascade[0]", "posts", "key", False),
        ("users.cascade[0]", "posts", "kind", False),
        ("users.retained", "log", None, False),
        ("users.retained", "log", "user", False),
    ]


def test_table_that_deployments_may_lack_is_optional_with_required_columns() -> None:
    values = {
        "schema": "dbctl.profile/1",
        "name": "p",
        "title": "P",
        "databases": {"main": {"engines": ["sqlite"], "secret": ["keys.token?"]}},
        "rebuild": [
            {"name": "r", "table": "totals?", "key": ["id"], "user": "id", "figures": ["sum"], "select": ""}
        ],
        "values": [{"table": "kinds?", "column": "kind", "allowed": ["a"]}],
    }
    profile = msgspec.convert(values, Profile)
    references = [
        (toml.dotted(entry.key), entry.table, entry.column, entry.is_optional)
        for entry in list_schema_references(profile, "main")
    ]
    assert references == [
        ("databases.main.secret", "keys", None, True),
        ("databases.main.secret", "keys", "token?", True),
        ("rebuild[0].table", "totals", None, True),
        ("rebuild[0].key", "totals", "id", False),
        ("rebuild[0].figures", "totals", "sum", False),
    ]
