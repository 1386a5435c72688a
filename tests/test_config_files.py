"""A configuration of several files: ``dbctl.toml`` and ``dbctl.d``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from dbctl.config import loader
from dbctl.config.sections import Selection
from dbctl.errors.connection import FileFailedError, FileMissingError
from dbctl.errors.databases import AlreadyExistsError
from dbctl.errors.usage import AppMissingError, ConfigInvalidError
from dbctl.services.checks import files
from dbctl.services.checks.base import FileSubject

APP = '[apps.{name}]\nprofile = "plain"\ndatabases = "{name}.db"\n'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DBCTL_CONFIG", raising=False)
    (tmp_path / "dbctl.d").mkdir()
    (tmp_path / "dbctl.toml").write_text(APP.format(name="main"))
    return tmp_path


def add_app(folder, name, file=""):
    path = folder / "dbctl.d" / (file or f"{name}.toml")
    path.write_text(APP.format(name=name))
    return path


def test_files_are_read_in_the_order_of_their_names(folder, answer):
    add_app(folder, "zoo")
    add_app(folder, "blog")
    add_app(folder, "hidden", ".#blog.toml")
    add_app(folder, "other", "backup.toml~")
    items = answer("apps", "list")["data"]["items"]
    assert [(item["name"], item["file"]) for item in items] == [
        ("main", "dbctl.toml"),
        ("blog", "dbctl.d/blog.toml"),
        ("zoo", "dbctl.d/zoo.toml"),
    ]


def test_paths_are_relative_to_the_folder_of_the_main_file(folder):
    part = add_app(folder, "blog")
    for config in ("dbctl.toml", str(part)):
        app = loader.find_app(Selection(config=config, app="blog"))
        assert app.databases["main"].path == str(folder / "blog.db")


def test_folder_has_the_name_of_the_main_file(folder):
    add_app(folder, "blog")
    (folder / "staging.toml").write_text(APP.format(name="stage"))
    assert list(loader.load(Selection(config="staging.toml")).files) == ["stage"]
    (folder / "staging.d").mkdir()
    (folder / "staging.d/shop.toml").write_text(APP.format(name="shop"))
    assert list(loader.load(Selection(config="staging.toml")).files) == ["stage", "shop"]


@pytest.mark.parametrize("table", ["apps", "secrets"])
def test_name_that_two_files_define_is_an_error_with_both(folder, table):
    content = APP.format(name="blog") if table == "apps" else '[secrets.blog]\nfile = "x"\n'
    (folder / "dbctl.toml").write_text("# first\n" + content)
    (folder / "dbctl.d/blog.toml").write_text("\n\n" + content)
    with pytest.raises(ConfigInvalidError) as caught:
        loader.load(Selection())
    assert caught.value.context["key"] == f"{table}.blog"
    assert (str(caught.value.context["file"]), caught.value.context["line"]) == ("dbctl.d/blog.toml", 3)
    assert "dbctl.toml, line 2" in str(caught.value)


def test_errors_of_all_files_are_reported_with_their_file(folder, answer):
    (folder / "dbctl.toml").write_text('[apps.main]\nprofile = "plain"\nprotected = 3\n')
    (folder / "dbctl.d/b.toml").write_text("apps.b = \n")
    (folder / "dbctl.d/a.toml").write_text('[apps.a]\nprofil = "plain"\n')
    findings = answer("config", "validate", status=2)["data"]["findings"]
    assert [(item["target"], item["message"].split(":")[0]) for item in findings] == [
        ("dbctl.toml", "line 3, apps.main.protected"),
        ("dbctl.d/a.toml", "line 1, apps.a.profile"),
        ("dbctl.d/a.toml", "line 2, apps.a.profil"),
        ("dbctl.d/b.toml", "line 1, TOML"),
    ]


def test_variables_and_profiles_of_a_part_are_reported_with_its_file(folder, answer):
    (folder / "dbctl.d/a.toml").write_text('[apps.a]\nprofile = "none-such"\n')
    finding = answer("config", "validate", status=2)["data"]["findings"][0]
    assert (finding["target"], finding["message"].split(":")[0]) == (
        "dbctl.d/a.toml",
        "line 2, apps.a.profile",
    )
    (folder / "dbctl.d/a.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "${NONE_SUCH}"\n')
    (warning,) = answer("apps", "list", status=12)["warnings"]
    assert warning.startswith("dbctl.d/a.toml, line 3")
    assert loader.find_app(Selection(app="main")).name == "main"


def test_show_names_the_file_of_each_key(folder, answer, start):
    add_app(folder, "blog")
    items = answer("config", "show")["data"]["items"]
    assert {item["key"]: (item["file"], item["line"]) for item in items}["apps.blog.databases"] == (
        "dbctl.d/blog.toml",
        3,
    )
    assert "dbctl.d/blog.toml" in start("config", "show", environment=dict(os.environ), cwd=folder).stdout


def test_broken_entries_of_the_folder(folder):
    (folder / "dbctl.d/a.toml").symlink_to("none")
    with pytest.raises(FileMissingError):
        loader.load(Selection())
    (folder / "dbctl.d/a.toml").unlink()
    (folder / "dbctl.d/a.toml").mkdir()
    with pytest.raises(FileFailedError):
        loader.load(Selection())
    (folder / "dbctl.d/a.toml").rmdir()
    os.mkfifo(folder / "dbctl.d/a.toml")
    with pytest.raises(FileFailedError):
        loader.load(Selection())


@pytest.mark.parametrize("path", ["/", "."])
def test_directory_in_place_of_the_file_is_reported(folder, answer, path):
    failure = answer("apps", "list", "--config", path, status=1)
    assert failure["error"]["code"] == "file-failed"
    assert failure["error"]["hint"]


def test_folder_that_is_a_file_is_ignored(folder):
    (folder / "dbctl.d").rmdir()
    (folder / "dbctl.d").write_text("x")
    assert list(loader.load(Selection()).files) == ["main"]


def test_only_the_selected_app_is_resolved(folder):
    add_app(folder, "blog")
    configuration = loader.load(Selection(config=str(folder / "dbctl.toml")), only="blog")
    assert (list(configuration.apps), list(configuration.files)) == (["blog"], ["main", "blog"])
    with pytest.raises(AppMissingError) as caught:
        loader.find_app(Selection(app="none"))
    assert "main, blog" in caught.value.hint


def test_init_refuses_an_app_of_another_file(folder):
    from dbctl.services.setup.init import read_configuration

    add_app(folder, "blog")
    with pytest.raises(AlreadyExistsError, match=r"dbctl\.d/blog\.toml"):
        read_configuration(folder / "dbctl.toml", "blog")


def test_crontab_lists_the_variables_of_all_files(folder):
    (folder / "dbctl.d/a.toml").write_text(
        '[apps.a]\nprofile = "plain"\ndatabases = "postgresql://u:${A_PASSWORD}@${A_HOST}/a"\n'
        '[secrets.A_PASSWORD]\nfile = "x"\n'
    )
    assert list(loader.referenced_variables(folder / "dbctl.toml")) == ["A_HOST"]


def test_doctor_checks_the_mode_of_every_file():
    with tempfile.TemporaryDirectory() as name:  # unlike the folders of pytest, other users can enter it
        for path in (Path(name), Path(name, "dbctl.d")):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        Path(name, "dbctl.toml").touch()
        part = add_app(Path(name), "blog")
        part.chmod(0o666)
        findings = list(files.check_configuration.run(FileSubject(Path(name, "dbctl.toml"), name)))
        assert [finding.target for finding in findings if finding.code == "writable-by-all"] == [str(part)]
