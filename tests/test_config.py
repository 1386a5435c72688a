"""The configuration: precedence of files, selection of the app, and reports of all errors together."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.config import environment, loader
from dbctl.config.sections import Selection
from dbctl.errors.connection import FileMissingError
from dbctl.errors.operations import ReplicaNotConfiguredError
from dbctl.errors.usage import (
    AppAmbiguousError,
    AppMissingError,
    ConfigInvalidError,
    ConfigMissingError,
    UrlInvalidError,
    UsageError,
)
from dbctl.files import toml

ONE_APP = '[apps.one]\nprofile = "p"\n[apps.one.databases]\nmain = "a/b.db"\n'
TWO = ONE_APP + '[apps.two]\nprofile = "q.toml"\nprotected = true\n'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DBCTL_CONFIG", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def write_config(text, name="dbctl.toml"):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")


def read_problems(text):
    write_config(text)
    with pytest.raises(toml.TomlError) as caught:
        loader.parse(Path("dbctl.toml"))
    return [(problem.line, problem.key) for problem in caught.value.problems]


def test_only_app_is_selected_by_default(folder):
    write_config(ONE_APP)
    app = loader.find_app(Selection())
    assert (app.name, app.profile, app.protected) == ("one", "p", False)
    assert app.databases["main"].path == str(folder / "a/b.db")


def test_user_without_home_directory_has_other_configurations(folder, monkeypatch, without_home):
    with pytest.raises(ConfigMissingError, match="looked for dbctl"):
        loader.find_app(Selection())
    for variable in ("XDG_CONFIG_DIRS", "XDG_CONFIG_HOME"):
        write_config(ONE_APP, f"{variable}/dbctl/dbctl.toml")
        monkeypatch.setenv(variable, str(folder / variable))
        assert loader.find_app(Selection()).folder == folder / variable / "dbctl"


def test_selection_is_required_with_several_apps(folder):
    write_config(TWO)
    with pytest.raises(AppAmbiguousError, match="one, two"):
        loader.find_app(Selection())
    app = loader.find_app(Selection(app="two"))
    assert (app.protected, app.profile) == (True, str(folder / "q.toml"))
    with pytest.raises(AppMissingError, match="three"):
        loader.find_app(Selection(app="three"))


def test_paths_are_relative_to_configuration_file(folder):
    write_config(ONE_APP, "deep/er/dbctl.toml")
    app = loader.find_app(Selection(config="deep/er/dbctl.toml"))
    assert app.databases["main"].path == str(folder / "deep/er/a/b.db")


def test_configuration_files_have_precedence(folder, monkeypatch):
    with pytest.raises(ConfigMissingError, match="looked for dbctl"):
        loader.find_app(Selection())
    write_config(ONE_APP.replace("one", "mine"), "home/.config/dbctl/dbctl.toml")
    assert loader.find_app(Selection()).name == "mine"
    write_config(ONE_APP.replace("one", "folder"))
    assert loader.find_app(Selection()).name == "folder"
    write_config(ONE_APP.replace("one", "said"), "env.toml")
    monkeypatch.setenv("DBCTL_CONFIG", "env.toml")
    assert loader.find_app(Selection()).name == "said"
    write_config(ONE_APP.replace("one", "typed"), "typed.toml")
    assert loader.find_app(Selection(config="typed.toml")).name == "typed"


@pytest.mark.parametrize("how", ["typed", "environment"])
def test_missing_named_file_is_an_error(how, monkeypatch):
    write_config(ONE_APP)
    if how == "environment":
        monkeypatch.setenv("DBCTL_CONFIG", "nix.toml")
    with pytest.raises(FileMissingError, match="nix"):
        loader.find_app(Selection(config="nix.toml" if how == "typed" else ""))


def test_profile_and_url_work_without_configuration(folder):
    app = loader.find_app(Selection(profile="p", urls=["main=x.db", "other=/y.db"]))
    assert (app.name, app.protected) == ("app", False)
    assert {name: url.path for name, url in app.databases.items()} == {
        "main": str(folder / "x.db"),
        "other": "/y.db",
    }


def test_url_option_replaces_configured_database(folder):
    write_config(ONE_APP + 'other = "o.db"\n')
    app = loader.find_app(Selection(urls=["other=x.db"]))
    assert app.databases["other"].path == str(folder / "x.db")
    assert app.databases["main"].path == str(folder / "a/b.db")


def test_duplicate_url_option_is_refused():
    with pytest.raises(UsageError, match="duplicate"):
        loader.parse_urls(["a=x", "a=y"], Path())


def test_url_without_name_may_contain_equals_sign():
    assert list(loader.parse_urls(["/x/a=b.db"], Path())) == ["main"]
    assert loader.parse_urls(["/x/a=b.db"], Path())["main"].path == "/x/a=b.db"


def test_environment_variable_is_substituted_and_masked(monkeypatch):
    monkeypatch.setenv("PW", "hunter2-marked")
    write_config('[apps.one]\nprofile = "p"\ndatabases.main = "postgresql://u:${PW}@h/d"\n')
    url = loader.find_app(Selection()).databases["main"]
    assert url.password.reveal() == "hunter2-marked"
    assert str(url) == "postgresql://u:***@h/d"


@pytest.mark.parametrize("password", ["a/b#c?d", "p@ss:w%2Frd", "${PW}", "ä 雪", "%zz"])
def test_password_in_variable_is_not_parsed_as_url(monkeypatch, password):
    monkeypatch.setenv("PW", password)
    write_config('[apps.one]\nprofile = "p"\ndatabases.main = "postgresql://u:${PW}@h:5/d?sslmode=require"\n')
    url = loader.find_app(Selection()).databases["main"]
    assert (url.password.reveal(), url.host, url.path, url.options) == (password, "h", "d", "sslmode=require")


def test_variable_may_contain_whole_url(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:a%2Fb@h/d")
    write_config('[apps.one]\nprofile = "p"\ndatabases.main = "${DATABASE_URL}"\n')
    url = loader.find_app(Selection()).databases["main"]
    assert (url.password.reveal(), url.host) == ("a/b", "h")


def test_unset_variable_of_other_app_is_ignored():
    write_config(
        f'{ONE_APP}[apps.two]\nprofile = "p"\nenv_file = ".env"\ndatabases.main = "postgresql://u:${{PW}}@h/d"\n'
    )
    assert loader.find_app(Selection(app="one")).databases["main"].path.endswith("a/b.db")
    for ask in (loader.find_app, loader.load):
        with pytest.raises(ConfigInvalidError, match=r"\.env cannot be read"):
            ask(Selection(app="two"))


def test_secret_is_read_from_file_variable(monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("hunter2/marked\n")
    monkeypatch.setenv("PW_FILE", str(tmp_path / "secret"))
    write_config('[apps.one]\nprofile = "p"\ndatabases.main = "postgresql://u:${PW}@h/d"\n')
    assert loader.find_app(Selection()).databases["main"].password.reveal() == "hunter2/marked"
    monkeypatch.setenv("PW_FILE", str(tmp_path / "nix"))
    with pytest.raises(ConfigInvalidError, match="PW_FILE names cannot be read"):
        loader.find_app(Selection())


def test_all_problems_are_reported_together():
    assert read_problems(
        '[apps.a]\nprofil = "x"\n[apps.a.databases]\nmain = 3\n[apps.b]\nprofile = "p"\nprotected = "yes"\n[app.c]\n'
    ) == [
        (1, "apps.a.profile"),
        (2, "apps.a.profil"),
        (4, "apps.a.databases.main"),
        (7, "apps.b.protected"),
        (8, "app"),
    ]


def test_problems_in_urls_are_reported_with_others():
    assert read_problems(
        '[apps.a]\nprofile = "p"\n[apps.a.databases]\nx = "${NIX}"\ny = "oracle://h"\n[apps.a.migrations]\nz = "${NIX}"\n'
    ) == [(4, "apps.a.databases.x"), (5, "apps.a.databases.y"), (7, "apps.a.migrations.z")]


def test_invalid_route_is_reported_with_its_own_key():
    problems = read_problems(
        '[apps.a]\nprofile = "p"\nvia = "shh:h"\n[apps.a.databases]\nx = "x.db"\ny = { url = "y.db", via = "ssh:" }\n'
        '[apps.b]\nprofile = "p"\nvia = "${NIX}"\n[apps.b.databases]\nx = "x.db"\n'
    )
    assert problems == [(3, "apps.a.via"), (6, "apps.a.databases.y.via"), (9, "apps.b.via")]


def test_password_of_invalid_url_is_not_shown():
    write_config('[apps.a]\nprofile = "p"\ndatabases.main = "postgresql://u:hunter2/x@h/d"\n')
    with pytest.raises(ConfigInvalidError, match=r"line 3, apps\.a\.databases\.main") as caught:
        loader.load(Selection())
    assert "hunter2" not in str(caught.value)
    with pytest.raises(UrlInvalidError) as typed:
        loader.find_app(Selection(profile="p", urls=["main=postgresql://u:hunter2/x@h/d"]))
    assert "hunter2" not in str(typed.value)


def test_configuration_without_apps_is_reported():
    write_config("")
    with pytest.raises(ConfigMissingError, match=r"has no \[apps.NAME\]"):
        loader.find_app(Selection())


def test_operator_is_user_of_sudo(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "ann")
    assert environment.operator_name() == "ann"
    monkeypatch.setattr("os.geteuid", lambda: 4_000_000)
    assert environment.operator_name() == "4000000"


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ('[apps.shop.replicas.other]\nurl = "postgresql://replica/shop"', "replicas.other"),
        ('[apps.shop.replicas.main]\nurl = "mysql://replica/shop"', "replicas.main.url"),
        ('[apps.shop.replicas.main]\nurl = "replica.db"', "replicas.main.url"),
        ('[apps.shop.replicas.main]\nurl = ""', "replicas.main.url"),
        (
            '[apps.shop.replicas.main]\nurl = "postgresql://replica/shop"\nmax_lag = "soon"',
            "replicas.main.max_lag",
        ),
        ("[apps.shop.replicas.main]", "replicas.main.url"),
        ('[apps.shop.replicas.main]\nurl = "postgresql://replica/shop_*"', "replicas.main.url"),
    ],
)
def test_invalid_replica_is_reported_with_its_key(tmp_path, section, key):
    file = tmp_path / "dbctl.toml"
    file.write_text(
        f'[apps.shop]\nprofile = "plain"\n[apps.shop.databases]\nmain = "postgresql://primary/shop"\n{section}\n'
    )
    with pytest.raises(ConfigInvalidError) as raised:
        loader.find_app(Selection(config=str(file)))
    assert raised.value.context["key"] == f"apps.shop.{key}"


def test_replica_replaces_address_on_request(tmp_path):
    file = tmp_path / "dbctl.toml"
    file.write_text(
        '[apps.shop]\nprofile = "plain"\n[apps.shop.databases]\nmain = "postgresql://primary/shop"\n'
        '[apps.shop.replicas.main]\nurl = "postgresql://replica/shop"\n'
    )
    app = loader.find_app(Selection(config=str(file)))
    assert (app.databases["main"].host, app.reads_replicas) == ("primary", False)
    app = loader.find_app(Selection(config=str(file), replica=True))
    assert (app.databases["main"].host, app.reads_replicas) == ("replica", True)
    assert app.replicas["main"].max_lag == timedelta(minutes=5)


def test_replica_option_without_replica_is_refused(tmp_path):
    file = tmp_path / "dbctl.toml"
    file.write_text('[apps.shop]\nprofile = "plain"\n[apps.shop.databases]\nmain = "shop.db"\n')
    other = tmp_path / "other.toml"  # the replica is that of another address
    other.write_text(
        '[apps.shop]\nprofile = "plain"\n[apps.shop.databases]\nmain = "postgresql://primary/shop"\n'
        '[apps.shop.replicas.main]\nurl = "postgresql://replica/shop"\n'
    )
    for selection in (
        Selection(config=str(file)),
        Selection(profile="plain", urls=["main=shop.db"]),
        Selection(config=str(other), urls=["main=postgresql://elsewhere/shop"]),
    ):
        with pytest.raises(ReplicaNotConfiguredError):
            loader.find_app(structs.replace(selection, replica=True))


def test_replica_of_a_fleet_has_the_name_of_the_instance(tmp_path):
    file = tmp_path / "dbctl.toml"
    file.write_text(
        '[apps.shop]\nprofile = "plain"\n[apps.shop.databases]\nmain = "postgresql://primary/shop_*"\n'
        '[apps.shop.replicas.main]\nurl = "postgresql://replica/shop_*"\n'
    )
    app = loader.find_app(Selection(config=str(file), app="shop/north", replica=True))
    assert (app.databases["main"].host, app.databases["main"].path) == ("replica", "shop_north")
    assert app.replicas["main"].url.path == "shop_north"
