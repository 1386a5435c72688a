"""The configuration: which file counts, which app is meant, and every mistake at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbctl.config import Selection, environment, loader
from dbctl.errors import (
    AppAmbiguousError,
    AppMissingError,
    ConfigInvalidError,
    ConfigMissingError,
    FileMissingError,
    UrlInvalidError,
    UsageError,
)
from dbctl.files import toml

ONE = '[apps.one]\nprofile = "p"\n[apps.one.databases]\nmain = "a/b.db"\n'
TWO = ONE + '[apps.two]\nprofile = "q.toml"\nprotected = true\n'


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DBCTL_CONFIG", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def write(text, name="dbctl.toml"):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")


def mistakes(text):
    write(text)
    with pytest.raises(toml.TomlError) as caught:
        loader.parse(Path("dbctl.toml"))
    return [(one.line, one.key) for one in caught.value.mistakes]


def test_the_only_app_is_meant_when_none_is_named(here):
    write(ONE)
    found = loader.find(Selection())
    assert (found.name, found.profile, found.protected) == ("one", "p", False)
    assert found.databases["main"].path == str(here / "a/b.db")


def test_of_several_apps_one_must_be_named(here):
    write(TWO)
    with pytest.raises(AppAmbiguousError, match="one, two"):
        loader.find(Selection())
    found = loader.find(Selection(app="two"))
    assert (found.protected, found.profile) == (True, str(here / "q.toml"))
    with pytest.raises(AppMissingError, match="three"):
        loader.find(Selection(app="three"))


def test_what_a_file_calls_relative_is_relative_to_the_file(here):
    write(ONE, "deep/er/dbctl.toml")
    found = loader.find(Selection(config="deep/er/dbctl.toml"))
    assert found.databases["main"].path == str(here / "deep/er/a/b.db")


def test_the_places_count_in_their_order(here, monkeypatch):
    with pytest.raises(ConfigMissingError, match="looked for dbctl"):
        loader.find(Selection())
    write(ONE.replace("one", "mine"), "home/.config/dbctl/dbctl.toml")
    assert loader.find(Selection()).name == "mine"
    write(ONE.replace("one", "here"))
    assert loader.find(Selection()).name == "here"
    write(ONE.replace("one", "said"), "env.toml")
    monkeypatch.setenv("DBCTL_CONFIG", "env.toml")
    assert loader.find(Selection()).name == "said"
    write(ONE.replace("one", "typed"), "typed.toml")
    assert loader.find(Selection(config="typed.toml")).name == "typed"


@pytest.mark.parametrize("how", ["typed", "environment"])
def test_a_file_that_was_named_and_is_not_there_is_not_passed_over(how, monkeypatch):
    write(ONE)
    if how == "environment":
        monkeypatch.setenv("DBCTL_CONFIG", "nix.toml")
    with pytest.raises(FileMissingError, match="nix"):
        loader.find(Selection(config="nix.toml" if how == "typed" else ""))


def test_profile_and_url_need_no_configuration(here):
    found = loader.find(Selection(profile="p", urls=["main=x.db", "other=/y.db"]))
    assert (found.name, found.protected) == ("app", False)
    assert {name: url.path for name, url in found.databases.items()} == {
        "main": str(here / "x.db"),
        "other": "/y.db",
    }


def test_a_url_beside_a_configuration_replaces_that_one_database(here):
    write(ONE + 'other = "o.db"\n')
    found = loader.find(Selection(urls=["other=x.db"]))
    assert found.databases["other"].path == str(here / "x.db")
    assert found.databases["main"].path == str(here / "a/b.db")


def test_a_database_given_twice_is_refused():
    with pytest.raises(UsageError, match="twice"):
        loader.given(["a=x", "a=y"], Path())


def test_a_url_without_a_name_is_the_main_one_also_with_an_equals_sign_in_it():
    assert list(loader.given(["/x/a=b.db"], Path())) == ["main"]
    assert loader.given(["/x/a=b.db"], Path())["main"].path == "/x/a=b.db"


def test_a_variable_of_the_environment_is_put_in_and_shows_no_more_than_the_rest(monkeypatch):
    monkeypatch.setenv("PW", "hunter2-marked")
    write('[apps.one]\nprofile = "p"\ndatabases.main = "postgresql://u:${PW}@h/d"\n')
    url = loader.find(Selection()).databases["main"]
    assert url.password.reveal() == "hunter2-marked"
    assert str(url) == "postgresql://u:***@h/d"


@pytest.mark.parametrize("password", ["a/b#c?d", "p@ss:w%2Frd", "${PW}", "ä 雪", "%zz"])
def test_a_password_in_a_variable_is_what_it_is(monkeypatch, password):
    monkeypatch.setenv("PW", password)
    write('[apps.one]\nprofile = "p"\ndatabases.main = "postgresql://u:${PW}@h:5/d?sslmode=require"\n')
    url = loader.find(Selection()).databases["main"]
    assert (url.password.reveal(), url.host, url.path, url.options) == (password, "h", "d", "sslmode=require")


def test_a_variable_that_is_a_whole_address_is_one(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:a%2Fb@h/d")
    write('[apps.one]\nprofile = "p"\ndatabases.main = "${DATABASE_URL}"\n')
    url = loader.find(Selection()).databases["main"]
    assert (url.password.reveal(), url.host) == ("a/b", "h")


def test_what_another_app_lacks_does_not_keep_from_this_one():
    write(
        f'{ONE}[apps.two]\nprofile = "p"\nenv_file = ".env"\ndatabases.main = "postgresql://u:${{PW}}@h/d"\n'
    )
    assert loader.find(Selection(app="one")).databases["main"].path.endswith("a/b.db")
    for ask in (loader.find, loader.load):
        with pytest.raises(ConfigInvalidError, match=r"\.env cannot be read"):
            ask(Selection(app="two"))


def test_a_secret_may_stand_in_a_file_that_a_variable_names(monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("hunter2/marked\n")
    monkeypatch.setenv("PW_FILE", str(tmp_path / "secret"))
    write('[apps.one]\nprofile = "p"\ndatabases.main = "postgresql://u:${PW}@h/d"\n')
    assert loader.find(Selection()).databases["main"].password.reveal() == "hunter2/marked"
    monkeypatch.setenv("PW_FILE", str(tmp_path / "nix"))
    with pytest.raises(ConfigInvalidError, match="PW_FILE names cannot be read"):
        loader.find(Selection())


def test_every_mistake_of_a_file_is_told_at_once():
    assert mistakes(
        '[apps.a]\nprofil = "x"\n[apps.a.databases]\nmain = 3\n[apps.b]\nprofile = "p"\nprotected = "yes"\n[app.c]\n'
    ) == [
        (1, "apps.a.profile"),
        (2, "apps.a.profil"),
        (4, "apps.a.databases.main"),
        (7, "apps.b.protected"),
        (8, "app"),
    ]


def test_also_those_that_only_show_when_an_address_is_read():
    assert mistakes(
        '[apps.a]\nprofile = "p"\n[apps.a.databases]\nx = "${NIX}"\ny = "oracle://h"\n[apps.a.migrations]\nz = "${NIX}"\n'
    ) == [(4, "apps.a.databases.x"), (5, "apps.a.databases.y"), (7, "apps.a.migrations.z")]


def test_a_password_in_an_address_that_is_not_understood_is_not_repeated():
    write('[apps.a]\nprofile = "p"\ndatabases.main = "postgresql://u:hunter2/x@h/d"\n')
    with pytest.raises(ConfigInvalidError, match=r"line 3, apps\.a\.databases\.main") as caught:
        loader.load(Selection())
    assert "hunter2" not in str(caught.value)
    with pytest.raises(UrlInvalidError) as typed:
        loader.find(Selection(profile="p", urls=["main=postgresql://u:hunter2/x@h/d"]))
    assert "hunter2" not in str(typed.value)


def test_a_configuration_without_apps_says_so():
    write("")
    with pytest.raises(ConfigMissingError, match=r"has no \[apps.NAME\]"):
        loader.find(Selection())


def test_the_person_at_work_is_who_called_sudo(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "ann")
    assert environment.operator() == "ann"
    monkeypatch.setattr("os.geteuid", lambda: 4_000_000)
    assert environment.operator() == "4000000"
