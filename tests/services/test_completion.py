"""Names for completion, on each engine."""

from __future__ import annotations

from contextlib import suppress

import pytest

from dbctl.config.sections import Selection
from dbctl.errors.base import DbctlError
from dbctl.services import completion
from dbctl.services.completion import NameRequest, list_names
from tests.databases import on_sqlite
from tests.services import larder_app


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mysql"])
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("completion") / "app"
    with larder_app.open_pantry(request.param, place) as pantry:
        larder_app.configure(pantry.folder, str(getattr(pantry, "url", "larder.db")))
        yield pantry.folder


def list_of(folder, kinds, prefix="", *words, **options):
    selection = Selection(config=str(folder / "dbctl.toml"))
    return list_names(kinds, NameRequest(selection=selection, prefix=prefix, words=words, **options))


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    monkeypatch.setattr(completion, "TIMEOUT", 10.0)  # a busy machine accepts connections late


def test_names_are_those_of_the_database(folder, answer, monkeypatch):
    monkeypatch.chdir(folder)
    logins = [user["login"] for user in answer("users", "list")["data"]["items"]]
    assert list_of(folder, "logins") == sorted(logins)
    roles = [role["name"] for role in answer("roles", "list")["data"]["items"]]
    assert list_of(folder, "roles") == sorted(roles)
    settings = [setting["key"] for setting in answer("settings", "list")["data"]["items"]]
    assert set(settings) <= set(list_of(folder, "settings"))
    assert list_of(folder, "logins,roles") == sorted({*logins, *roles})


def test_prefix_selects_names(folder):
    first, *_ = list_of(folder, "logins")
    assert first in list_of(folder, "logins", first[:2])
    assert list_of(folder, "logins", first.upper()) == [first]
    assert list_of(folder, "logins", "%") == []
    assert list_of(folder, "tables", "recipe_l") == ["recipe_labels"]


def test_columns_are_those_of_the_named_table(folder):
    assert "mail" in list_of(folder, "columns", "", "data", "rows", "members")
    assert list_of(folder, "columns=", "mai", "data", "set", "members", "1") == ["mail="]
    assert list_of(folder, "columns", "", "data", "rows", "nothing") == []


@pytest.mark.parametrize("kind", sorted(completion.KINDS))
@on_sqlite("folder")
def test_every_kind_ends_without_internal_error(folder, kind):
    with suppress(DbctlError):  # such as a feature that the app lacks
        list_of(folder, kind, "a")
