"""The first step: databases found, configuration written."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path

import pytest

from dbctl.config import loader, model
from dbctl.errors import (
    AlreadyExistsError,
    ConfigInvalidError,
    DatabaseNotFoundError,
    DatabaseUnknownError,
    FileFailedError,
    FileMissingError,
    NotSupportedError,
    ProfileMissingError,
    UsageError,
)
from dbctl.services.setup.init import Setup
from tests.services.flashpoint_app import template
from tests.shapes import waqtor
from tests.shapes.flashpoint_web import document_flashpoint_db, sixth_app_db


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def place(path, shape="deployed"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template(shape), path)


def setup(
    directory=".",
    *,
    profile="flashpoint-web",
    app="",
    file="dbctl.toml",
    urls=(),
    protected=False,
    settings=None,
):
    return Setup(
        profile, Path(directory), app=app, file=Path(file), urls=urls, protected=protected, settings=settings
    )


#: Where backups go until somebody says otherwise.
BACKUP = {
    "repository": "backups",
    "keep": {"last": 7, "daily": 14, "weekly": 8, "monthly": 12},
    "max_age": "26h",
    "verify_within": "8d",
    "drill_within": "32d",
}


def written(file="dbctl.toml"):
    return tomllib.loads(Path(file).read_text(encoding="utf-8-sig"))["apps"]


def test_databases_and_migrations_are_found_and_written_relative_to_the_file(here):
    place("web/backend/user.db")
    document_flashpoint_db(here / "web/Data/flashpoint.sqlite", games=1)
    (here / "web/backend/src/migrations").mkdir(parents=True)
    (here / "etc").mkdir()
    done = setup("web", file="etc/x.toml", app="fp", protected=True).apply()
    assert written("etc/x.toml") == {
        "fp": {
            "profile": "flashpoint-web",
            "protected": True,
            "databases": {"user": "../web/backend/user.db", "flashpoint": "../web/Data/flashpoint.sqlite"},
            "migrations": {"user": "../web/backend/src/migrations"},
            "backup": BACKUP,
        }
    }
    assert (done.app, list(done.missing)) == ("fp", [])
    found = loader.find(model.Selection(config="etc/x.toml"))
    assert Path(found.databases["user"].path).samefile("web/backend/user.db")
    assert Path("etc/x.toml").stat().st_mode & 0o777 == 0o600


def test_a_database_somewhere_below_is_found_and_the_optional_one_may_be_missing():
    place("a/b/c/user.db")
    done = setup().apply()
    assert (done.databases, list(done.missing)) == ({"user": "a/b/c/user.db"}, ["flashpoint"])


def test_a_plan_writes_nothing(here):
    place("user.db")
    plan = setup().plan()
    assert list(plan.steps)[:2] == ["create dbctl.toml: [apps.flashpoint-web]", "user = user.db"]
    assert [path.name for path in here.iterdir()] == ["user.db"]


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"# mine\n[apps.other]  # keep\nprofile = 'x'\n",
        b"\xef\xbb\xbf# mine\r\n[apps.other]\r\nprofile = 'x'",
        b"apps.other.profile = 'x'\n",
        b"[apps]\nother.profile = 'x'\n",
    ],
)
def test_what_stands_in_the_file_stays_to_the_letter(here, before):
    place("user.db")
    (here / "dbctl.toml").write_bytes(before)
    (here / "dbctl.toml").chmod(0o640)
    setup().apply()
    assert (here / "dbctl.toml").read_bytes().startswith(before)
    assert written()["flashpoint-web"]["databases"] == {"user": "user.db"}
    assert (not before) or written()["other"] == {"profile": "x"}
    assert (here / "dbctl.toml").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("before", ["apps = {}\n", "apps = {other = {profile = 'x'}}\n"])
def test_a_file_that_takes_no_further_table_stays_as_it_is(here, before):
    place("user.db")
    (here / "dbctl.toml").write_text(before)
    with pytest.raises(UsageError, match="by hand"):
        setup().apply()
    assert (here / "dbctl.toml").read_text() == before


def test_a_second_app_of_the_same_name_is_refused_and_another_name_is_not():
    place("user.db")
    setup().apply()
    before = Path("dbctl.toml").read_bytes()
    with pytest.raises(AlreadyExistsError, match="flashpoint-web"):
        setup()
    assert Path("dbctl.toml").read_bytes() == before
    setup(app="second").apply()
    assert list(written()) == ["flashpoint-web", "second"]


def test_a_broken_configuration_is_not_written_to(here):
    place("user.db")
    (here / "dbctl.toml").write_text("[apps\n")
    with pytest.raises(ConfigInvalidError, match="line 1"):
        setup()


@pytest.mark.parametrize("name", ["a b", "x\ny", 'a"b', "a/b", "-a", "ä", "x" * 65, "[a]"])
def test_a_name_that_would_be_trouble_later_is_refused(name):
    place("user.db")
    with pytest.raises(UsageError, match="a name is made of"):
        setup(app=name)


def test_several_files_that_could_be_the_one_are_told(here):
    place("x/user.db")
    place("y/user.db")
    with pytest.raises(UsageError, match=r"x/user\.db, y/user\.db.*--url user=PATH"):
        setup()
    assert setup(urls=["user=x/user.db"]).apply().databases == {"user": "x/user.db"}
    place("user.db")
    assert setup(app="nearest").apply().databases == {"user": "user.db"}


def test_nothing_found_says_what_was_looked_for(here):
    with pytest.raises(DatabaseNotFoundError, match=r"\(user\.db\) was found below"):
        setup()
    assert not (here / "dbctl.toml").exists()


def test_a_file_of_that_name_that_is_something_else_says_why_it_is_not_the_one(here):
    sixth_app_db(here / "a/user.db")
    (here / "b").mkdir()
    (here / "b/user.db").write_bytes(b"garbage" * 100)
    (here / "c").mkdir()
    (here / "c/user.db").write_bytes(b"")
    with pytest.raises(DatabaseNotFoundError) as caught:
        setup()
    for told in ("a/user.db is not it: it lacks table users", "b/user.db is not it", "c/user.db is not it"):
        assert told in caught.value.hint
    place("d/user.db")
    assert setup().apply().databases == {"user": "d/user.db"}


def test_links_in_a_circle_and_to_the_same_file_find_it_once(here):
    place("x/user.db")
    (here / "x/up").symlink_to("..")
    (here / "self").symlink_to(".")
    (here / "user.db").symlink_to("x/user.db")
    assert setup().apply().databases == {"user": "x/user.db"}


def test_a_folder_that_lets_nobody_look_is_told(here, monkeypatch):
    (here / "closed").mkdir()
    look = os.scandir

    def refusing(folder):  # root may look everywhere, so the system's answer is made up
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return look(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DatabaseNotFoundError) as caught:
        setup()
    assert "closed could not be looked into" in caught.value.hint


def test_folders_that_hold_no_databases_are_passed_over():
    place("node_modules/user.db")
    place("a/b/c/d/e/f/user.db")
    with pytest.raises(DatabaseNotFoundError):
        setup()


def test_an_address_is_checked_against_the_profile():
    with pytest.raises(DatabaseUnknownError, match="nix"):
        setup(urls=["nix=x.db"])
    with pytest.raises(NotSupportedError, match="postgresql"):
        setup(urls=["user=postgresql://u:hunter2@h/d"])


def test_an_address_without_a_name_is_that_of_main_and_its_password_stands_in_the_file_alone():
    made = setup(profile="plain", urls=["postgresql://u:hunter2@h/d"])
    shown = f"{made.plan()} {made.apply()}"
    assert 'main = "postgresql://u:hunter2@h/d"' in Path("dbctl.toml").read_text()
    assert "postgresql://u:***@h/d" in shown
    assert "hunter2" not in shown
    with pytest.raises(DatabaseNotFoundError, match="may be called anything"):
        setup(profile="plain", app="other")


def test_what_is_not_there_is_told():
    with pytest.raises(FileMissingError, match="directory"):
        setup("nix")
    with pytest.raises(ProfileMissingError):
        setup(profile="nix")
    place("user.db")
    with pytest.raises(FileFailedError, match="No such file"):
        setup(file="no/such/x.toml").apply()


def test_a_profile_of_one_s_own_is_written_as_a_path(here):
    sixth_app_db(here / "var/larder.db")
    shutil.copyfile(Path(__file__).parents[2] / "profiles" / "larder.toml", here / "larder.toml")
    setup(profile="larder.toml").apply()
    assert written()["larder"] == {
        "profile": "larder.toml",
        "databases": {"pantry": "var/larder.db"},
        "backup": BACKUP,
    }


# The app's own file of settings ---------------------------------------------------------------------------------------


def of_server(text, **further):
    Path(".env").write_text(text, encoding="utf-8")
    done = setup(profile="waqtor", **further).apply()
    return done.databases["main"]


def test_a_database_on_a_server_is_where_the_app_s_own_settings_say_and_the_password_stays_there(here):
    parts = 'DB_HOST=db.example\nDB_PORT=5433\nDB_NAME=app\nDB_USER=the app\nDB_PASSWORD="s3cr/t #1"\nDB_SSL=true\n'
    address = of_server(parts)
    assert address == "postgresql://the%20app:${DB_PASSWORD}@db.example:5433/app?sslmode=require"
    assert "s3cr" not in Path("dbctl.toml").read_text(encoding="utf-8")
    assert written()["waqtor"]["env_file"] == ".env"
    url = loader.read(Path("dbctl.toml")).apps["waqtor"].databases["main"]
    assert (url.password.reveal(), url.host, url.port, url.user) == (
        "s3cr/t #1",
        "db.example",
        5433,
        "the app",
    )


def test_what_the_app_s_settings_leave_out_is_what_the_app_takes_then(here):
    assert of_server("DB_NAME=mine\n") == "postgresql://postgres:***@localhost/mine"
    assert written()["waqtor"]["databases"]["main"] == "postgresql://postgres:postgres@localhost/mine"


def test_a_whole_address_counts_before_its_parts_and_before_the_environment(here, monkeypatch):
    assert (
        of_server("DATABASE_URL=postgres://u:hidden@h:1/one\nDB_HOST=another\n", file="etc.toml")
        == "${DATABASE_URL}"
    )
    assert "hidden" not in Path("etc.toml").read_text(encoding="utf-8")
    monkeypatch.setenv("DATABASE_URL", "postgres://u:p@elsewhere/two")
    url = loader.read(Path("etc.toml")).apps["waqtor"].databases["main"]
    assert (url.host, url.path, url.password.reveal()) == ("h", "one", "hidden")
    assert loader.variables(Path("etc.toml")) == []


def test_settings_that_are_given_count_before_those_below_the_directory(here):
    Path("other.env").write_text("DB_NAME=other\n", encoding="utf-8")
    assert of_server("DB_NAME=mine\n", settings=Path("other.env")).endswith("/other")
    assert written()["waqtor"]["env_file"] == "other.env"


def test_the_former_database_of_the_app_is_found_beside_it(here):
    waqtor.legacy(here / "runtime/server/db/waqtor.db")
    of_server("DB_NAME=mine\n")
    assert written()["waqtor"]["databases"]["legacy"] == "runtime/server/db/waqtor.db"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("PORT=3000\n", DatabaseNotFoundError),
        ("DATABASE_URL=postgresql://u:hid/den@h/n\n", UsageError),
        ("DATABASE_URL=mysql://u:hidden@h/n\n", NotSupportedError),
        ("DB_PORT=hidden\n", UsageError),
    ],
)
def test_settings_that_name_no_such_database_are_refused_without_a_secret_in_the_message(here, text, error):
    with pytest.raises(error) as refused:
        of_server(text)
    assert "hid" not in str(refused.value)
    assert not Path("dbctl.toml").exists()


def test_settings_that_are_given_must_be_there_and_say_where_the_database_is(here):
    with pytest.raises(FileMissingError):
        setup(profile="waqtor", settings=Path("nope"))
    Path("empty.env").write_text("PORT=1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="sets none of DATABASE_URL, DB_HOST"):
        setup(profile="waqtor", settings=Path("empty.env"))
    with pytest.raises(NotSupportedError, match="--env-file"):
        setup(settings=Path("empty.env"))


def test_settings_that_have_gone_since_are_told_with_their_name(here):
    of_server("DB_PASSWORD=x\n")
    Path(".env").unlink()
    with pytest.raises(
        ConfigInvalidError,
        match=r"\.env cannot be read: No such file .*\(files_\*\.tar\.gz of the newest backup below backups may hold it\)",
    ):
        loader.read(Path("dbctl.toml"))
