"""The bundle for bug reports contains no secret, wherever it was stored."""

from __future__ import annotations

import json
import os
import sqlite3
import tarfile
from contextlib import closing

import pytest

from tests import databases

MARK = "HUNTER2xMARK"


def read_members(file):
    with tarfile.open(file) as archive:
        members = archive.getmembers()
        return members, {
            member.name.partition("/")[2]: archive.extractfile(member).read().decode() for member in members
        }


def create_database(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"""create table users (id integer primary key, password text default '{MARK}', kind text check (kind != '{MARK}'),
              level varchar(10), note text generated always as ('{MARK}') virtual);
            create index by_kind on users (kind) where kind = '{MARK}';
            create view shown as select '{MARK}' as secret;
            create trigger added after insert on users begin select '{MARK}'; end;
            insert into users (password, kind) values ('$2b$12${MARK}', '{MARK}2');"""
        )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An app with the mark in each place that may contain a secret."""
    place = tmp_path / f"folder-{MARK}"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.delenv("DBCTL_CONFIG", raising=False)
    for name in ("SHOP_PASSWORD", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "USER", "LOGNAME", "HOSTNAME"):
        monkeypatch.setenv(name, MARK)
    create_database(place / f"{MARK}.db")
    for name in ("key", "passphrase", "pepper"):
        (place / f"{name}-{MARK}").write_text(f"{MARK}\n")
    (place / ".env").write_text(f"TOKEN={MARK}\nDATABASE_URL={MARK}.db\n")
    (place / "dbctl.d").mkdir()
    (place / "dbctl.toml").write_text(
        f"""# {MARK}
        [apps.{MARK}]
        profile = "plain"
        directory = "/srv/{MARK}"
        env_file = ".env"
        pepper_file = "pepper-{MARK}"
        prefix = "{MARK[:8]}"
        databases = "{MARK}.db"
        migrations = {{ main = "{MARK}" }}
        [apps.{MARK}.schedule]
        backup = "17 3 * * *"
        [apps.{MARK}.backup]
        repository = "s3://{MARK.lower()}/{MARK}"
        max_age = "26h"
        compress = "zstd"
        scratch = "postgresql://{MARK}:{MARK}@{MARK}/{MARK}?options={MARK}"
        encrypt = {{ passphrase_file = "passphrase-{MARK}", identity_file = "{MARK}" }}
        staging = "/{MARK}"
        [apps.{MARK}.embedder]
        kind = "openai"
        url = "https://{MARK}.example/{MARK}"
        model = "{MARK}"
        key_file = "key-{MARK}"
        [secrets.{MARK}]
        command = ["echo", "{MARK}"]
        """
    )
    (place / f"dbctl.d/{MARK}.toml").write_text(
        f"""[apps.remote-{MARK}]
        profile = "plain"
        databases = "postgresql://{MARK}:{MARK}@127.0.0.1:1/{MARK}"
        [apps.broken-{MARK}]
        profile = "{MARK}"
        [apps.unset-{MARK}]
        profile = "plain"
        databases = "${{NONE_{MARK}}}"
        [apps.fleet-{MARK}]
        profile = "plain"
        databases = "{MARK}-*.db"
        [apps.fleet-{MARK}.instances]
        exclude = ["{MARK}"]
        """
    )
    return place


def test_no_file_contains_a_secret(folder, answer):
    result = answer("support", "--to", "s.tar.gz", "--timeout", "1")
    members, texts = read_members(folder / "s.tar.gz")
    assert [item["name"] for item in result["data"]["items"]] == list(texts)
    for member in members:
        assert MARK.lower() not in f"{member.name}{member.uname}{member.gname}".lower()
    for name, text in texts.items():
        for part in (MARK, str(folder), os.uname().nodename):
            assert part.lower() not in text.lower(), name
    assert (folder / "s.tar.gz").stat().st_mode & 0o777 == 0o600


def test_bundle_has_what_maintainers_need(folder, answer):
    answer("support", "--to", "s.tar.gz", "--timeout", "1")
    _, texts = read_members(folder / "s.tar.gz")
    files = {name: json.loads(text) for name, text in texts.items() if name.endswith(".json")}
    section = files["configuration.json"]["content"][0]["apps"]["app-1"]
    assert section["backup"]["max_age"] == "26h"
    assert section["backup"]["compress"] == "zstd"
    assert section["backup"]["scratch"] == "postgresql://(hidden)"
    assert section["profile"] == "plain"
    assert files["databases.json"]["app-2"]["main"] == {"error": "unreachable"}
    assert files["databases.json"]["app-3"] == {"error": "profile-missing"}
    assert files["databases.json"]["app-4"] == {"error": "config-invalid"}
    assert {item["name"] for item in files["versions.json"]} >= {"dbctl", "SQLite", "pg_dump", "mariadb-dump"}
    assert {item["target"] for item in files["findings.json"]["app-1"]} >= {"app-1/main"}


@pytest.mark.parametrize("scheme", ["rclone:", "sftp://", "s3://"])
def test_address_of_a_repository_has_its_scheme(folder, answer, scheme):
    file = folder / "dbctl.toml"
    file.write_text(
        file.read_text().replace(
            f"s3://{MARK.lower()}/{MARK}", f"{scheme}{MARK}{'/' if '/' in scheme else ':'}x"
        )
    )
    answer("support", "--to", "s.tar.gz", "--timeout", "1")
    _, texts = read_members(folder / "s.tar.gz")
    section = json.loads(texts["configuration.json"])["content"][0]["apps"]["app-1"]
    assert section["backup"]["repository"] == f"{scheme}(hidden)"


def test_errors_of_recorded_runs_are_codes(folder, answer, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", str(folder / "state"))
    answer("backup", "create", "--app", f"broken-{MARK}", status=None)
    answer("support", "--to", "s.tar.gz", "--timeout", "1")
    _, texts = read_members(folder / "s.tar.gz")
    runs = json.loads(texts["runs.json"])
    assert ("backup create", "profile-missing") in {(run["command"], run["error"]) for run in runs}
    assert MARK not in texts["runs.json"]


def test_schema_has_no_texts(folder, answer):
    (folder / "dbctl.toml").write_text(f'[apps.shop]\nprofile = "plain"\ndatabases = "{MARK}.db"\n')
    (folder / f"dbctl.d/{MARK}.toml").unlink()
    answer("support", "--to", "s.tar.gz")
    _, texts = read_members(folder / "s.tar.gz")
    (table,) = json.loads(texts["databases.json"])["app-1"]["main"]["tables"]
    assert (table["name"], table["checks"]) == ("users", 1)
    columns = {column["name"]: column for column in table["columns"]}
    assert (columns["password"]["default"], columns["kind"]["default"]) == ("(hidden)", None)
    assert columns["level"]["type"] == "VARCHAR(10)"
    assert MARK not in "".join(texts.values())


@pytest.mark.parametrize(
    "text", [f"password = {MARK}\n", f'[apps.x]\n{MARK} = "{MARK}"\nprofile = 3\n', f"[apps.{MARK}\n"]
)
def test_invalid_configuration_is_not_quoted(folder, answer, text):
    (folder / "dbctl.toml").write_text(text)
    answer("support", "--to", "s.tar.gz")
    _, texts = read_members(folder / "s.tar.gz")
    assert "invalid" in json.loads(texts["configuration.json"])
    assert MARK not in "".join(texts.values())


def test_works_without_configuration(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DBCTL_CONFIG", raising=False)
    answer("support")
    _, texts = read_members(tmp_path / "dbctl-support.tar.gz")
    assert json.loads(texts["configuration.json"]) == {"error": "config-missing"}
    assert answer("support", status=6)["error"]["code"] == "file-exists"


def test_dry_run_writes_nothing(folder, answer):
    before = sorted(folder.iterdir())
    assert answer("support", "--dry-run", "--timeout", "1")["data"]["total"] == 8
    assert sorted(folder.iterdir()) == before


def test_archive_that_cannot_be_written(folder, answer):
    answer("support", "--to", "none/s.tar.gz", "--timeout", "1", status=1)
    assert sorted(path.name for path in folder.iterdir() if "tar" in path.name) == []


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_servers_have_versions_and_no_labels_of_enumerations(engine, tmp_path, folder, answer):
    with databases.empty_database(engine, tmp_path) as database:
        kind = f"enum('{MARK}', 'x')" if engine == "mysql" else "varchar(40)"
        database.run(f"create table things (id integer primary key, kind {kind} default '{MARK}')")
        database.run(f"insert into things values (1, '{MARK}')")
        (folder / f"dbctl.d/{MARK}.toml").unlink()
        (folder / "dbctl.toml").write_text(f'[apps.shop]\nprofile = "plain"\ndatabases = "{database.url}"\n')
        answer("support", "--to", "s.tar.gz")
    _, texts = read_members(folder / "s.tar.gz")
    main = json.loads(texts["databases.json"])["app-1"]["main"]
    assert (main["engine"], main["version"][0].isdigit()) == (engine, True)
    assert [column["name"] for column in main["tables"][0]["columns"]] == ["id", "kind"]
    assert MARK.lower() not in "".join(texts.values()).lower()


def test_version_lists_drivers_and_programs(answer):
    items = {item["name"]: item for item in answer("version")["data"]["items"]}
    assert items["SQLite"]["version"] == sqlite3.sqlite_version
    assert items["psycopg"]["extra"] == "postgresql"
    assert items["pg_dump"]["version"].partition(".")[0].isdigit()
    assert items["mariadb-dump"]["kind"] == "program"
