"""Man pages: current, without warnings of groff and mandoc, and installed where man finds them."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from dbctl.cli._catalog import read_catalog
from dbctl.config.environment import bundled_folder
from dbctl.services.setup.configuration import list_keys
from tests import servers
from tests.in_process import run_command
from tools import man_pages

PAGES = sorted(path.name for path in bundled_folder("man").iterdir())


@pytest.fixture(scope="module")
def readers():
    missing = [program for program in ("man", "groff", "mandoc") if shutil.which(program) is None]
    if missing:
        servers.skip_or_fail(f"{', '.join(missing)} is not installed")


def read(*words, **variables):
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "80", **variables}
    process = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stderr == ""
    return process.stdout


@pytest.mark.needs_extension
def test_bundled_pages_are_current():
    folder = bundled_folder("man")
    assert {path.name: path.read_text() for path in folder.iterdir()} == man_pages.generate()


@pytest.mark.needs_extension
def test_each_group_has_a_page():
    names = {f"dbctl-{group.replace(' ', '-')}.1" for group in read_catalog().groups}
    assert set(PAGES) == names | {"dbctl.1", "dbctl.toml.5"}


@pytest.mark.parametrize("page", PAGES)
def test_page_has_no_warning(readers, page):
    path = bundled_folder("man") / page
    text = read("-l", str(path))
    assert max(map(len, text.splitlines())) <= 100  # examples are not wrapped
    lint = subprocess.run(["mandoc", "-T", "lint", path], capture_output=True, text=True, check=False)
    assert (lint.returncode, lint.stdout) == (0, "")


def test_page_shows_what_users_type(readers):
    text = read("-l", str(bundled_folder("man") / "dbctl-users.1"))
    for line in (
        "--transfer-to LOGIN",
        "dbctl users delete --inactive 730d --dry-run",
        "--set name='Alice B.'",
    ):
        assert line in text


def test_page_of_the_configuration_has_every_key(readers):
    text = " ".join(read("-l", str(bundled_folder("man") / "dbctl.toml.5")).split())
    assert [key.key for key in list_keys() if key.key not in text] == []


def test_installed_pages_are_read_by_name(readers, tmp_path):
    environment = {"HOME": str(tmp_path)}
    for _ in range(2):
        assert run_command(["man", "install"], environment=environment, cwd=tmp_path).returncode == 0
    folder = tmp_path / ".local/share/man"
    assert sorted(path.name for path in folder.rglob("*.[15]")) == PAGES
    manpath = {"MANPATH": str(folder)}
    assert "dbctl-backup(1)" in read("dbctl", **manpath)
    assert "apps.NAME.databases" in read("5", "dbctl.toml", **manpath)


def test_page_of_another_program_is_not_replaced(tmp_path, start):
    page = tmp_path / "man/man1/dbctl.1"
    page.parent.mkdir(parents=True)
    page.write_text("mine")
    process = start("man", "install", environment={"XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path)})
    assert (process.returncode, page.read_text()) == (6, "mine")


@pytest.mark.parametrize("words", [("man", "install"), ("completions", "install", "bash")])
def test_installation_without_home_directory_is_refused(answer, monkeypatch, without_home, words):
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert answer(*words, status=2)["error"]["code"] == "usage"


@pytest.mark.parametrize(
    ("name", "page"),
    [("dbctl", "dbctl.1"), ("backup", "dbctl-backup.1"), ("search index", "dbctl-search-index.1")],
)
def test_show_prints_source(start, name, page):
    process = start("man", "show", name, environment={})
    assert process.stdout == (bundled_folder("man") / page).read_text()


def test_unknown_page_has_suggestion(answer):
    assert "'backup'" in answer("man", "show", "bakup", status=5)["error"]["hint"]
