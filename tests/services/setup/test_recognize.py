"""``dbctl init`` recognizes the databases of a directory, an address, an environment file and a Compose file."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from msgspec import structs

from dbctl.config import loader
from dbctl.model import Secret
from dbctl.services.setup.addresses import Address, hide_password
from dbctl.services.setup.compose import ComposeFile, find_compose_file
from dbctl.url import parse_url
from tests import servers

PASSWORD = "p@ss/w#rd ${x} %41"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def create_file(path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table things (id integer primary key)")


@pytest.fixture(params=["postgresql", "mysql"])
def address(request):
    """Yield the address of a database with one table, whose user has a password of special characters."""
    user = f"init_{os.getpid()}"
    create = servers.mysql_database if request.param == "mysql" else servers.postgresql_schema
    with (
        create() as url,
        closing(
            servers.mysql_connection(url) if request.param == "mysql" else servers.connection(url)
        ) as connection,
    ):
        cursor = connection.cursor()
        cursor.execute("create table things (id integer primary key)")
        if request.param == "mysql":
            cursor.execute("create user %s@'%%' identified by %s", (user, PASSWORD))
            cursor.execute(f"grant all on `{url.path}`.* to {user}@'%'")
        else:
            user = url.user
        yield servers.text(structs.replace(url, user=user, password=Secret(PASSWORD)))
        if request.param == "mysql":
            cursor.execute(f"drop user {user}@'%'")


def configured_url(app="plain"):
    return loader.read(Path("dbctl.toml")).apps[app].databases["main"]


# Files -----------------------------------------------------------------------------------------------------------


def test_several_files_of_no_known_app_are_refused_with_commands(answer):
    create_file("a.db")
    create_file("sub/b c.db")
    error = answer("init", ".", status=2)["error"]
    assert error["code"] == "databases-ambiguous"
    assert re.search(r"dbctl init a\.db --app a; \S*dbctl init 'sub/b c\.db' --app bc$", error["hint"])
    assert not Path("dbctl.toml").exists()
    assert answer("init", ".", "--app", "a")["data"]["databases"] == {"main": "a.db"}
    assert answer("init", "sub/b c.db", "--app", "second")["data"]["databases"] == {"main": "sub/b c.db"}
    answer("stats", "tables", "--app", "second")


def test_files_of_one_name_are_configured_by_the_commands_of_the_hint(answer):
    for name in ("a/cache.db", "b c/cache.db"):
        create_file(name)
    hint = answer("init", ".", status=2)["error"]["hint"]
    commands = re.findall(r"dbctl (init [^;]+)", hint)
    assert commands == ["init a/cache.db --app a-cache", "init 'b c/cache.db' --app bc-cache"]
    for command in commands:
        answer(*shlex.split(command))
    paths = [configured_url(app).path for app in ("a-cache", "bc-cache")]
    assert paths == [str(Path(name).resolve()) for name in ("a/cache.db", "b c/cache.db")]


@pytest.mark.needs_extension("drafts")
def test_plain_profile_needs_no_url(answer):
    create_file("odd:name.db")
    result = answer("init", "plain", ".")
    assert result["data"]["databases"] == {"main": "./odd:name.db"}
    assert any("1 table" in text and "dbctl profiles draft --app" in text for text in result["warnings"])


@pytest.mark.needs_extension("drafts")
@pytest.mark.parametrize("options", [(), ("--app", "my-notes")])
def test_profile_of_one_of_several_apps_is_drafted_by_the_command_of_the_note(answer, options):
    create_file("first.db")
    answer("init", "first.db", "--app", "first")
    create_file("second.db")
    (note,) = answer("init", "second.db", *options)["warnings"]
    command = re.search(r"dbctl (profiles draft .*)", note)[1]
    answer(*shlex.split(command))
    assert "second.db" in Path("second.toml").read_text()


def test_file_that_is_no_database_has_no_backups(answer):
    Path("notes.db").write_text("no database")
    error = answer("init", "notes.db", status=4)["error"]
    assert (error["code"], error["hint"]) == ("not-a-database", "Check the path.")


# Servers ---------------------------------------------------------------------------------------------------------


def test_address_of_unknown_app_is_configured_without_password(answer, address):
    result = answer("init", address)
    text = Path("dbctl.toml").read_text()
    assert result["data"]["profile"] == "plain"
    assert quote(PASSWORD, safe="") not in text
    assert PASSWORD not in text + json.dumps(result)
    (file,) = (Path(path) for path in result["data"]["secrets"])
    assert any(str(file) in warning for warning in result["warnings"])
    assert (file.stat().st_mode & 0o777, file.read_text()) == (0o600, PASSWORD + "\n")
    assert configured_url().password.reveal() == PASSWORD
    assert answer("stats", "tables")["data"]["items"][0]["table"] == "things"


def test_second_app_does_not_replace_the_secret_of_another(answer, address):
    answer("init", address, "--app", "a.b")
    answer("init", address, "--app", "a-b")
    assert [configured_url(name).password.reveal() for name in ("a.b", "a-b")] == [PASSWORD] * 2
    Path("c-password").write_text("mine")
    before = Path("dbctl.toml").read_bytes()
    assert answer("init", address, "--app", "c", status=6)["error"]["code"] == "file-exists"
    assert (Path("c-password").read_text(), Path("dbctl.toml").read_bytes()) == ("mine", before)


@pytest.mark.parametrize("place", [".", ".env", "plain"])
def test_env_file_of_unknown_app_keeps_the_password(answer, address, place):
    Path(".env").write_text(f"SECRET_KEY=x\nAPP_DB_URI='{address}'\n")
    answer("init", place)
    text = Path("dbctl.toml").read_text()
    assert ('main = "${APP_DB_URI}"' in text, 'env_file = ".env"' in text) == (True, True)
    assert configured_url().password.reveal() == PASSWORD
    answer("stats", "tables")


def test_several_variables_are_selected_by_name(answer, address):
    create_file("data/local.db")
    Path(".env").write_text(f"DATABASE_URL={address}\nCACHE=sqlite:///./data/local.db\n")
    error = answer("init", ".", status=2)["error"]
    assert error["hint"].count("dbctl init") == 2
    answer("init", ".", "--app", "local")
    assert configured_url("local").path.endswith("data/local.db")


def test_unreachable_server_of_an_env_file_is_reported(answer):
    Path(".env").write_text("DATABASE_URL=postgresql://u:hidden@127.0.0.1:1/d\n")
    result = answer("init", ".", status=10)
    assert "hidden" not in json.dumps(result)
    assert not Path("dbctl.toml").exists()


# Compose ---------------------------------------------------------------------------------------------------------

IMAGES = {"postgresql": ("ghcr.io/app/postgres:16", "POSTGRES"), "mysql": ("mariadb:11@sha256:00", "MARIADB")}


def write_compose(
    address, *, password, environment="{names}", ports='["127.0.0.1:{outer}:{inner}"]', more=""
):
    """Write a Compose file with the database of an address, whose server publishes its port."""
    url = parse_url(address)
    image, prefix = IMAGES[url.engine]
    database = "POSTGRES_DB" if prefix == "POSTGRES" else "MARIADB_DATABASE"
    inner = 5432 if prefix == "POSTGRES" else 3306
    values = {f"{prefix}_USER": url.user, database: url.path}
    if password is not None:
        values[f"{prefix}_PASSWORD"] = password
    Path("compose.yaml").write_text(
        f"""services:
  web: {{image: nginx, depends_on: [db]}}
  exporter: {{image: "quay.io/postgres-exporter:1"}}
  db:
    image: {image}
    environment: {json.dumps([f"{k}={v}" for k, v in values.items()] if environment == "list" else values)}
    ports: {ports.format(outer=url.port or inner, inner=inner)}
    {more.format(prefix=prefix)}
secrets: {{db_pw: {{file: ./pw.txt}}}}
"""
    )


@pytest.mark.parametrize(
    ("environment", "ports"),
    [
        ("list", '["{outer}:{inner}"]'),
        ("mapping", '["127.0.0.1:{outer}:{inner}/tcp"]'),
        ("mapping", "[{{target: {inner}, published: {outer}}}]"),
    ],
)
@pytest.mark.parametrize(
    "written", [PASSWORD.replace("$", "$$"), "${DB_PW:?needed}", "$DB_PW", "${NONE:-default}"]
)
def test_compose_service_is_configured(answer, address, environment, ports, written):
    expected = "default" if "NONE" in written else PASSWORD
    write_compose(address, password=written, environment=environment, ports=ports)
    Path(".env").write_text(f"DB_PW='{PASSWORD}'\n")
    if "default" in written and address.startswith("mysql"):
        answer("init", ".", status=10)  # the password is wrong
        return
    answer("init", ".")
    text = Path("dbctl.toml").read_text()
    assert (PASSWORD in text, "default" in text.replace("the default", "")) == (False, False)
    assert ('env_file = ".env"' in text) == ("DB_PW" in written)
    assert configured_url().password.reveal() == expected
    answer("stats", "tables")


def test_password_of_compose_stays_in_its_file(answer, address):
    Path("pw.txt").write_text(PASSWORD)
    write_compose(address, password=None, environment="mapping")
    text = Path("compose.yaml").read_text()
    prefix = IMAGES[parse_url(address).engine][1]
    variable = f'"{prefix}_PASSWORD_FILE": "/run/secrets/db_pw", "{prefix}_USER"'
    Path("compose.yaml").write_text(text.replace(f'"{prefix}_USER"', variable))
    answer("init", "compose.yaml")
    assert 'file = "pw.txt"' in Path("dbctl.toml").read_text()
    assert configured_url().password.reveal() == PASSWORD


def test_env_file_of_a_compose_service_is_read(answer, address):
    write_compose(address, password=None, environment="mapping", more="env_file: [db.env]")
    Path("db.env").write_text(f"{IMAGES[parse_url(address).engine][1]}_PASSWORD='{PASSWORD}'\n")
    answer("init", ".")
    assert 'env_file = "db.env"' in Path("dbctl.toml").read_text()
    assert configured_url().password.reveal() == PASSWORD


def test_service_without_published_port_is_reported(answer, address):
    write_compose(address, password="x", environment="mapping", ports="[]")
    error = answer("init", ".", status=10)["error"]
    assert "publishes no port" in error["message"]
    assert "add ports:" in error["hint"]
    assert not Path("dbctl.toml").exists()


def test_several_services_are_listed_and_selected(answer, address):
    write_compose(address, password=PASSWORD.replace("$", "$$"), environment="mapping")
    text = Path("compose.yaml").read_text()
    service = text[text.index("  db:") : text.index("secrets:")]
    other = "postgres" if parse_url(address).engine == "postgresql" else "information_schema"
    second = service.replace("  db:", "  db2:").replace(parse_url(address).path, other)
    Path("compose.yaml").write_text(text.replace("secrets:", f"{second}secrets:"))
    error = answer("init", ".", status=2)["error"]
    assert re.search(r"dbctl init \. --app db; \S*dbctl init \. --app db2$", error["hint"])
    answer("init", ".", "--app", "db")
    assert configured_url("db").path == parse_url(address).path


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "[]",
        "services: 3",
        "",
        "services: {db: {image: mysql}}",
        "services: {a..b: {image: postgres, environment: {POSTGRES_DB: x}}}",
        f"services: {{{'a' * 64}: {{image: postgres, environment: {{POSTGRES_DB: x}}}}}}",
        "services: {db: {image: postgres, environment: {POSTGRES_PASSWORD_FILE: /run/secrets/a}}}\nsecrets: [a]",
    ],
)
def test_unusable_compose_file_is_reported(answer, text):
    Path("docker-compose.yml").write_text(text)
    response = answer("init", ".", status=None)
    assert response["exit_code"] in (1, 2, 10)
    assert "internal error" not in response["error"]["message"]


# Secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://u:a@b/c@h/d", "postgresql://u:${S_PASSWORD}@h/d"),
        ("postgresql://u@h/d?sslpassword=x", "${S_URL}"),
        ("mysql://u:p@h/d?password=x", "${S_URL}"),
        ("mysql://u:${PW}@h/d", "mysql://u:${PW}@h/d"),
        ("mysql://u@h/d", "mysql://u@h/d"),
    ],
)
def test_clear_secrets_become_variables(folder, text, hidden):
    text = text.replace("a@b/c", "a@b%2Fc")
    assert hide_password(Address(text=text), folder, "s", "main", []).text == hidden


@pytest.mark.parametrize("place", ["rclone:x:y", "user@nas:backups", "sftp://nas/x", "docker://x"])
def test_address_of_another_program_is_no_database(answer, folder, place):
    assert answer("init", place, status=2)["error"]["code"] == "url-invalid"
    assert answer("stats", "tables", "--url", place, status=2)["error"]["code"] == "url-invalid"
    Path("dbctl.toml").write_text(f'[apps.x]\nprofile = "plain"\ndatabases = "{place}"\n')
    assert answer("stats", "tables", status=2)["error"]["code"] == "config-invalid"
    assert [path.name for path in folder.iterdir()] == ["dbctl.toml"]


def test_variables_of_compose_are_replaced_as_compose_does(folder):
    Path(".env").write_text("A=x\nEMPTY=\n")
    Path("compose.yaml").write_text("services: {}\n")
    compose = ComposeFile(Path("compose.yaml"))
    pairs = {
        "$A": "x",
        "${A}y": "xy",
        "$$A": "$A",
        "${B:-d}": "d",
        "${EMPTY:-d}": "d",
        "${A:+z}": "z",
        "${B:+z}": "",
        "$B": "",
        "${B:-${A}}": "x",
        "${B:-${C:-d}}e": "de",
        "${B:-p$A}": "px",
        "${A:+${C:-z}}": "z",
        "${A:-${B}}": "x",
    }
    assert {text: compose._fill(text) for text in pairs} == pairs


BASE = """
services:
  db:
    image: postgres:15
    environment: [POSTGRES_USER=shop, POSTGRES_DB=first, POSTGRES_PASSWORD=pw]
"""
OVERRIDE = """
name: other
services:
  db:
    environment: {POSTGRES_DB: second}
    ports: ["127.0.0.1:5433:5432"]
"""
MERGED = "postgresql://shop:pw@127.0.0.1:5433/second"


@pytest.mark.parametrize(
    ("first", "second", "settings"),
    [
        ("compose.yaml", "compose.override.yaml", ""),
        ("docker-compose.yml", "docker-compose.override.yml", ""),
        ("a.yaml", "b.yaml", "COMPOSE_FILE=a.yaml:b.yaml\n"),
        ("a.yaml", "b.yaml", "COMPOSE_FILE=a.yaml;b.yaml\nCOMPOSE_PATH_SEPARATOR=;\n"),
    ],
)
def test_files_of_a_project_are_merged(folder, first, second, settings):
    Path(first).write_text(BASE)
    Path(second).write_text(OVERRIDE)
    Path(".env").write_text(settings)
    for path in (Path(first), find_compose_file(Path())):
        compose = ComposeFile(path)
        ((name, address),) = compose.list_addresses()
        assert (name, address.text, compose._project) == ("db", MERGED, "other")


def test_files_of_the_environment_are_merged_unless_another_is_named(folder, monkeypatch):
    for name in ("a.yaml", "c.yaml"):
        Path(name).write_text(BASE)
    Path("b.yaml").write_text(OVERRIDE)
    Path(".env").write_text("COMPOSE_FILE=c.yaml\n")
    monkeypatch.setenv("COMPOSE_FILE", f"{folder}/a.yaml:b.yaml")
    (entry,) = ComposeFile(folder / "a.yaml").list_addresses()
    assert entry[1].text == MERGED
    assert "ports" not in ComposeFile(Path("c.yaml")).services["db"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("include: [db.yaml]\nservices: {web: {image: app}}\n", "include"),
        ("include: [db.yaml]\n", "include"),
        ("services: {db: {extends: {file: db.yaml, service: db}}}\n", "extends of db"),
    ],
)
def test_forms_that_are_not_read_are_named(answer, text, key):
    Path("compose.yaml").write_text(f"name: shop\n{text}")
    error = answer("init", "compose.yaml", status=2)["error"]
    assert key in error["message"]
    assert "compose:shop/SERVICE" in error["hint"]
