"""``dbctl init`` finds databases and writes a configuration."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from pathlib import Path

import jsonschema
import pytest

from dbctl.config import loader
from dbctl.config.sections import Selection
from dbctl.errors.connection import FileFailedError, FileMissingError
from dbctl.errors.databases import AlreadyExistsError, DatabaseNotFoundError
from dbctl.errors.usage import (
    ConfigInvalidError,
    DatabaseUnknownError,
    NotSupportedError,
    ProfileMissingError,
    UsageError,
)
from dbctl.services.setup.init import InitConfig
from tests.services.flashpoint_app import template
from tests.shapes import waqtor
from tests.shapes.flashpoint_web import document_flashpoint_db, larder_db


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def copy_template(path, shape="deployed"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template(shape), path)


def create_operation(
    directory=".",
    *,
    profile="flashpoint-web",
    app="",
    file="dbctl.toml",
    urls=(),
    protected=False,
    settings=None,
):
    return InitConfig(
        profile, Path(directory), app=app, file=Path(file), urls=urls, protected=protected, settings=settings
    )


#: The initial backup section.
BACKUP = {
    "repository": "backups",
    "keep": {"last": 7, "daily": 14, "weekly": 8, "monthly": 12},
    "max_age": "26h",
    "verify_within": "8d",
    "drill_within": "32d",
}


def read_config(file="dbctl.toml"):
    return tomllib.loads(Path(file).read_text(encoding="utf-8-sig"))["apps"]


def test_databases_and_migrations_are_written_as_relative_paths(folder):
    copy_template("web/backend/user.db")
    document_flashpoint_db(folder / "web/Data/flashpoint.sqlite", games=1)
    (folder / "web/backend/src/migrations").mkdir(parents=True)
    (folder / "etc").mkdir()
    result = create_operation("web", file="etc/x.toml", app="fp", protected=True).apply()
    assert read_config("etc/x.toml") == {
        "fp": {
            "profile": "flashpoint-web",
            "protected": True,
            "databases": {"user": "../web/backend/user.db", "flashpoint": "../web/Data/flashpoint.sqlite"},
            "migrations": {"user": "../web/backend/src/migrations"},
            "backup": BACKUP,
        }
    }
    assert (result.app, list(result.missing)) == ("fp", [])
    app = loader.find_app(Selection(config="etc/x.toml"))
    assert Path(app.databases["user"].path).samefile("web/backend/user.db")
    assert Path("etc/x.toml").stat().st_mode & 0o777 == 0o600


def test_nested_database_is_found_and_optional_one_may_be_missing():
    copy_template("a/b/c/user.db")
    result = create_operation().apply()
    assert (result.databases, list(result.missing)) == ({"user": "a/b/c/user.db"}, ["flashpoint"])


def test_optional_database_whose_file_is_damaged_is_reported():
    copy_template("a/user.db")
    Path("a/flashpoint.sqlite").write_bytes(b"no database" * 1000)
    operation = create_operation()
    result = operation.apply()
    (reason,) = result.mismatches["flashpoint"]
    assert (list(result.missing), list(result.mismatches)) == (["flashpoint"], ["flashpoint"])
    assert reason.startswith("a/flashpoint.sqlite does not match:")
    assert "is not a SQLite database" in reason
    assert [reason in text for text in result.remarks] == [True]
    assert [step for step in operation.plan().steps if reason in step] == list(result.remarks)


def test_a_plan_writes_nothing(folder):
    copy_template("user.db")
    plan = create_operation().plan()
    assert list(plan.steps)[:2] == ["create dbctl.toml: [apps.flashpoint-web]", "user = user.db"]
    assert [path.name for path in folder.iterdir()] == ["user.db"]


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
def test_existing_text_of_configuration_is_unchanged(folder, before):
    copy_template("user.db")
    (folder / "dbctl.toml").write_bytes(before)
    (folder / "dbctl.toml").chmod(0o640)
    create_operation().apply()
    assert (folder / "dbctl.toml").read_bytes().startswith(before)
    assert read_config()["flashpoint-web"]["databases"] == {"user": "user.db"}
    assert (not before) or read_config()["other"] == {"profile": "x"}
    assert (folder / "dbctl.toml").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("before", ["apps = {}\n", "apps = {other = {profile = 'x'}}\n"])
def test_inline_apps_table_is_refused_and_unchanged(folder, before):
    copy_template("user.db")
    (folder / "dbctl.toml").write_text(before)
    with pytest.raises(UsageError, match="edit the file"):
        create_operation().apply()
    assert (folder / "dbctl.toml").read_text() == before


def test_existing_app_name_is_refused():
    copy_template("user.db")
    create_operation().apply()
    before = Path("dbctl.toml").read_bytes()
    with pytest.raises(AlreadyExistsError, match="flashpoint-web"):
        create_operation()
    assert Path("dbctl.toml").read_bytes() == before
    create_operation(app="second").apply()
    assert list(read_config()) == ["flashpoint-web", "second"]


def test_invalid_configuration_is_not_changed(folder):
    copy_template("user.db")
    (folder / "dbctl.toml").write_text("[apps\n")
    with pytest.raises(ConfigInvalidError, match="line 1"):
        create_operation()


@pytest.mark.parametrize("name", ["a b", "x\ny", 'a"b', "a/b", "-a", "ä", "x" * 65, "[a]"])
def test_invalid_app_names_are_refused(name):
    copy_template("user.db")
    with pytest.raises(UsageError, match="only letters"):
        create_operation(app=name)


def test_several_matching_files_are_refused_with_paths(folder):
    copy_template("x/user.db")
    copy_template("y/user.db")
    with pytest.raises(UsageError, match=r"x/user\.db, y/user\.db.*--url user=PATH"):
        create_operation()
    assert create_operation(urls=["user=x/user.db"]).apply().databases == {"user": "x/user.db"}
    copy_template("user.db")
    assert create_operation(app="nearest").apply().databases == {"user": "user.db"}


def test_missing_database_is_reported_with_file_names(folder):
    with pytest.raises(DatabaseNotFoundError, match=r"\(user\.db\) not found in"):
        create_operation()
    assert not (folder / "dbctl.toml").exists()


def test_other_files_with_the_name_are_reported_with_reason(folder):
    larder_db(folder / "a/user.db")
    (folder / "b").mkdir()
    (folder / "b/user.db").write_bytes(b"garbage" * 100)
    (folder / "c").mkdir()
    (folder / "c/user.db").write_bytes(b"")
    with pytest.raises(DatabaseNotFoundError) as caught:
        create_operation()
    for text in (
        "a/user.db does not match: it lacks table users",
        "b/user.db does not match",
        "c/user.db does not match",
    ):
        assert text in caught.value.hint
    copy_template("d/user.db")
    assert create_operation().apply().databases == {"user": "d/user.db"}


def test_links_to_same_file_are_found_once(folder):
    copy_template("x/user.db")
    (folder / "x/up").symlink_to("..")
    (folder / "self").symlink_to(".")
    (folder / "user.db").symlink_to("x/user.db")
    assert create_operation().apply().databases == {"user": "x/user.db"}


def test_unreadable_folder_is_reported(folder, monkeypatch):
    (folder / "closed").mkdir()
    scandir = os.scandir

    def refuse(path):  # root can read every folder, so the error is simulated
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DatabaseNotFoundError) as caught:
        create_operation()
    assert "closed is not readable" in caught.value.hint


def test_folders_without_databases_are_skipped():
    copy_template("node_modules/user.db")
    copy_template("a/b/c/d/e/f/user.db")
    with pytest.raises(DatabaseNotFoundError):
        create_operation()


def test_url_is_checked_against_the_profile():
    with pytest.raises(DatabaseUnknownError, match="nix"):
        create_operation(urls=["nix=x.db"])
    with pytest.raises(NotSupportedError, match="postgresql"):
        create_operation(urls=["user=postgresql://u:hunter2@h/d"])


def test_url_without_name_is_main_and_password_has_its_own_file():
    operation = create_operation(profile="plain", urls=["postgresql://u:hunter2@h/d"])
    plan = operation.plan()
    assert any("plain-password (mode 0600)" in step for step in plan.steps)
    assert not Path("plain-password").exists()
    result = operation.apply()
    text = Path("dbctl.toml").read_text()
    assert 'main = "postgresql://u:${PLAIN_PASSWORD}@h/d"' in text
    assert "hunter2" not in f"{plan} {result} {text}"
    assert Path("plain-password").read_text() == "hunter2\n"
    assert loader.read(Path("dbctl.toml")).apps["plain"].databases["main"].password.reveal() == "hunter2"
    (remark,) = result.remarks
    assert "plain-password" in remark
    variable = create_operation(profile="plain", urls=["postgresql://u:${PW}@h/d"], app="variable")
    assert variable.apply().remarks == []
    with pytest.raises(DatabaseNotFoundError, match="any file"):
        create_operation(profile="plain", app="other")


def test_secret_file_is_removed_if_the_configuration_cannot_be_written(folder):
    (folder / "dbctl.toml").write_text("apps = {}\n")
    with pytest.raises(UsageError, match="edit the file"):
        create_operation(profile="plain", urls=["postgresql://u:hunter2@h/d"]).apply()
    with pytest.raises(FileFailedError):
        create_operation(profile="plain", urls=["postgresql://u:hunter2@h/d"], file="no/x.toml").apply()
    assert [path.name for path in folder.iterdir()] == ["dbctl.toml"]


def test_missing_directory_profile_and_folder_are_reported():
    with pytest.raises(FileMissingError, match="directory"):
        create_operation("nix")
    with pytest.raises(ProfileMissingError):
        create_operation(profile="nix")
    copy_template("user.db")
    with pytest.raises(FileFailedError, match="No such file"):
        create_operation(file="no/such/x.toml").apply()


def test_custom_profile_is_written_as_path(folder):
    larder_db(folder / "var/larder.db")
    shutil.copyfile(Path(__file__).parents[2] / "profiles" / "larder.toml", folder / "larder.toml")
    create_operation(profile="larder.toml").apply()
    assert read_config()["larder"] == {
        "profile": "larder.toml",
        "databases": {"pantry": "var/larder.db"},
        "backup": BACKUP,
    }


# Environment file of the app ---------------------------------------------------------------------------------------


def init_server_app(text, **options):
    Path(".env").write_text(text, encoding="utf-8")
    result = create_operation(profile="waqtor", **options).apply()
    return result.databases["main"]


def test_url_is_built_from_variables_without_password(folder):
    parts = 'DB_HOST=db.example\nDB_PORT=5433\nDB_NAME=app\nDB_USER=the app\nDB_PASSWORD="s3cr/t #1"\nDB_SSL=true\n'
    address = init_server_app(parts)
    assert address == "postgresql://the%20app:${DB_PASSWORD}@db.example:5433/app?sslmode=require"
    assert "s3cr" not in Path("dbctl.toml").read_text(encoding="utf-8")
    assert read_config()["waqtor"]["env_file"] == ".env"
    url = loader.read(Path("dbctl.toml")).apps["waqtor"].databases["main"]
    assert (url.password.reveal(), url.host, url.port, url.user) == (
        "s3cr/t #1",
        "db.example",
        5433,
        "the app",
    )


def test_missing_variables_have_defaults_of_the_app(folder):
    address = init_server_app("DB_NAME=mine\n")
    assert address == "postgresql://postgres:${WAQTOR_PASSWORD}@localhost/mine"
    url = loader.read(Path("dbctl.toml")).apps["waqtor"].databases["main"]
    assert url.password.reveal() == "postgres"


def test_url_variable_precedes_parts_and_environment(folder, monkeypatch):
    assert (
        init_server_app("DATABASE_URL=postgres://u:hidden@h:1/one\nDB_HOST=another\n", file="etc.toml")
        == "${DATABASE_URL}"
    )
    assert "hidden" not in Path("etc.toml").read_text(encoding="utf-8")
    monkeypatch.setenv("DATABASE_URL", "postgres://u:p@elsewhere/two")
    url = loader.read(Path("etc.toml")).apps["waqtor"].databases["main"]
    assert (url.host, url.path, url.password.reveal()) == ("h", "one", "hidden")
    assert loader.referenced_variables(Path("etc.toml")) == []


def test_specified_env_file_precedes_found_one(folder):
    Path("other.env").write_text("DB_NAME=other\n", encoding="utf-8")
    assert init_server_app("DB_NAME=mine\n", settings=Path("other.env")).endswith("/other")
    assert read_config()["waqtor"]["env_file"] == "other.env"


def test_legacy_database_is_found_next_to_it(folder):
    waqtor.legacy(folder / "runtime/server/db/waqtor.db")
    init_server_app("DB_NAME=mine\n")
    assert read_config()["waqtor"]["databases"]["legacy"] == "runtime/server/db/waqtor.db"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("PORT=3000\n", DatabaseNotFoundError),
        ("DATABASE_URL=postgresql://u:hid/den@h/n\n", UsageError),
        ("DATABASE_URL=mysql://u:hidden@h/n\n", NotSupportedError),
        ("DB_PORT=hidden\n", UsageError),
    ],
)
def test_invalid_variables_are_refused_without_secrets(folder, text, error):
    with pytest.raises(error) as caught:
        init_server_app(text)
    assert "hid" not in str(caught.value)
    assert not Path("dbctl.toml").exists()


@pytest.mark.parametrize(
    ("profile", "file", "text", "address"),
    [
        (
            "wordpress",
            "wp-config.php",
            "<?php define('DB_NAME', 'b'); define('DB_USER', 'u'); define('DB_PASSWORD', 'p'); define('DB_HOST', 'h:3307');",
            "mysql://u:${DB_PASSWORD}@h:3307/b",
        ),
        (
            "nextcloud",
            "config/config.php",
            "<?php $CONFIG = array('dbtype' => 'pgsql', 'dbhost' => '/run/pg', 'dbuser' => 'u', 'dbpassword' => 'p', 'dbname' => 'n');",
            "postgresql://u:${dbpassword}@/n?host=/run/pg",
        ),
        (
            "mediawiki",
            "LocalSettings.php",
            "<?php $wgDBtype = 'mysql'; $wgDBserver = 'localhost:/run/my.sock'; $wgDBname = 'w'; $wgDBuser = 'u'; $wgDBpassword = '';",
            "mysql://u@/w?unix_socket=/run/my.sock",
        ),
        (
            "django",
            "site/settings.py",
            "DATABASES = {'default': {'ENGINE': 'django.db.backends.postgresql', 'HOST': '::1', 'NAME': 'd', 'USER': 'u', 'PASSWORD': 'p'}}",
            "postgresql://u:${DATABASES__default__PASSWORD}@[::1]/d",
        ),
        (
            "ghost",
            "config.production.json",
            '{"database": {"client": "mysql", "connection": {"host": "h", "user": "u", "password": "p", "database": "g"}}}',
            "mysql://u:${database__connection__password}@h/g",
        ),
        ("laravel", ".env", "DB_CONNECTION=pgsql\nDB_DATABASE=l\n", "postgresql://127.0.0.1/l"),
    ],
)
def test_url_is_built_from_settings_of_the_app(folder, profile, file, text, address):
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text(text, encoding="utf-8")
    create_operation(profile=profile).apply()
    assert read_config()[profile]["databases"]["main"] == address
    url = loader.read(Path("dbctl.toml")).apps[profile].databases["main"]
    assert (url.password.reveal() if url.password else "") == ("p" if "${" in address else "")


@pytest.mark.parametrize(
    "text", ["DB_CONNECTION=sqlite\nDB_DATABASE=/l\n", "DB_CONNECTION=unknown\nDB_HOST=h\n"]
)
def test_settings_of_another_engine_have_no_address(folder, text):
    Path(".env").write_text(text, encoding="utf-8")
    with pytest.raises(DatabaseNotFoundError):
        create_operation(profile="laravel")


def test_specified_env_file_must_exist_and_contain_url(folder):
    with pytest.raises(FileMissingError):
        create_operation(profile="waqtor", settings=Path("nope"))
    Path("empty.env").write_text("PORT=1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="sets none of DATABASE_URL, DB_HOST"):
        create_operation(profile="waqtor", settings=Path("empty.env"))
    with pytest.raises(NotSupportedError, match="--env-file"):
        create_operation(settings=Path("empty.env"))


def test_deleted_env_file_is_reported_with_path(folder):
    init_server_app("DB_PASSWORD=x\n")
    Path(".env").unlink()
    with pytest.raises(
        ConfigInvalidError,
        match=r"\.env cannot be read: No such file .*\(files_\*\.tar\.gz of the newest backup below backups may .*\)",
    ):
        loader.read(Path("dbctl.toml"))


def test_commented_options_are_valid_and_the_schema_accepts_them(folder):
    copy_template("user.db")
    create_operation(app="a b".replace(" ", ".")).apply()
    text = (folder / "dbctl.toml").read_text()
    address = text.partition("\n")[0].removeprefix("#:schema ")
    assert address.startswith("https://")  # not a path of this installation
    schema = Path(__file__).parents[3] / address.partition("/main/")[2]
    lines = [line.removeprefix("# ") if line.startswith("# ") else line for line in text.splitlines()]
    (folder / "dbctl.toml").write_text("\n".join(lines))
    values = tomllib.loads("\n".join(lines))
    jsonschema.validate(values, json.loads(schema.read_text()))
    app = loader.find_app(Selection())
    assert (app.protected, app.backup.compress) == (True, "zstd")
    assert values["apps"]["a.b"]["schedule"]["cleanup"] == "off"
    assert app.backup.encrypt.passphrase_env == "BACKUP_PASSPHRASE"


def test_only_a_new_file_begins_with_the_schema(folder):
    copy_template("user.db")
    create_operation().apply()
    create_operation(app="other").apply()
    assert (folder / "dbctl.toml").read_text().count("#:schema") == 1
    assert list(read_config()) == ["flashpoint-web", "other"]
