"""Recognition of apps: the facts of a profile match the databases of its app, and those of no other one."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from dbctl.profiles import loader
from dbctl.services.setup import recognize
from dbctl.url import parse_url
from tests.databases import empty_database
from tests.profiles.apps import deployments

#: Applications that are made with another one, whose tables they contain.
PARENTS = {"paperless-ngx": ["django"]}
#: Profiles of one database, in the order in which they fit: ``init`` selects the first, and ``--profile`` the other.
SAME = {name: ["strapi-admin", "strapi"] for name in ("strapi", "strapi-admin")}


def list_matches(url):
    db = recognize.registry.load_engine(url.engine).open_for_reading(url, "test", timeout=5)
    try:
        profiles = [loader.load(name) for name in loader.names()]
        matches = recognize._match_profiles(url, db.tables(), profiles)
        return [profile.name for _, profile, _ in sorted(matches, key=lambda match: -match[0])]
    finally:
        db.close()


@pytest.mark.parametrize("name", deployments.NAMES)
def test_facts_of_profile_match_no_other_application(name, tmp_path):
    engines = loader.load(name).databases["main"].engines
    engine = "sqlite" if "sqlite" in engines else engines[0]
    with empty_database(engine, tmp_path / "app.db") as database:
        deployments.fill(name, database)
        assert list_matches(parse_url(database.url)) == SAME.get(name, [name, *PARENTS.get(name, [])])


@pytest.mark.needs_extension("demo")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("chat-lancedb", marks=pytest.mark.needs_extension("lancedb")),
        "flashpoint-web",
        "promptvault",
        "yaai",
    ],
)
def test_facts_of_profile_match_its_own_sample_data(name, tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    answer("demo", name, "app")
    profiles = [loader.load(name) for name in loader.names()]
    names = {database.profile for database in recognize._find_databases("app", profiles)}
    assert names - {""} == {name}  # the vectors of the chat app are not identified by tables


def test_common_names_of_tables_are_no_app(tmp_path):
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table users (id integer primary key, email text)")
        connection.execute("create table roles (id integer primary key, name text)")
        connection.execute("create table role_permissions (role_id integer, permission text)")
        connection.execute("create table migrations (id integer primary key, migration text, batch integer)")
    assert recognize.recognize_app(str(path), "").profile == "plain"
