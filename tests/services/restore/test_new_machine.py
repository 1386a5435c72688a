"""On a machine without the configuration, the options that describe the app restore its newest backup."""

from __future__ import annotations

from tests.databases import empty_database

CONFIGURATION = """\
[apps.shop]
profile = "plain"
backup = {{ repository = "{repository}" }}
databases = "{database}"
"""


def test_app_without_a_configuration_is_restored_by_its_name(answer, tmp_path, monkeypatch):
    with empty_database("sqlite", tmp_path / "shop.db") as shop:
        shop.run("create table t (id integer primary key)", "insert into t values (1), (2)")
        text = CONFIGURATION.format(repository=tmp_path / "backups", database=shop.url)
        (tmp_path / "dbctl.toml").write_text(text)
        answer("backup", "create", "--config", str(tmp_path / "dbctl.toml"))
    new_machine = tmp_path / "new"
    new_machine.mkdir()
    monkeypatch.chdir(new_machine)
    with empty_database("sqlite", new_machine / "shop.db") as restored:
        restore = ("restore", "apply", "latest", "--yes", "--repository", str(tmp_path / "backups"))
        restore += ("--profile", "plain", "--url", f"main={restored.url}")
        error = answer(*restore, status=5)["error"]
        assert error["code"] == "backup-missing"
        assert "--app NAME" in error["hint"]
        answer(*restore, "--app", "shop")
        assert restored.rows("select id from t order by id") == [(1,), (2,)]


def test_hint_about_a_backup_without_the_selected_database_names_the_app(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sections = "".join(f'[databases.{name}]\nengines = ["sqlite"]\n' for name in ("main", "other"))
    (tmp_path / "shop.toml").write_text(
        f'schema = "dbctl.profile/1"\nname = "shop"\ntitle = "Shop"\n{sections}'
    )
    with (
        empty_database("sqlite", tmp_path / "main.db") as main,
        empty_database("sqlite", tmp_path / "o.db") as other,
    ):
        for database in (main, other):
            database.run("create table t (id integer primary key)")
        (tmp_path / "dbctl.toml").write_text(
            '[apps.shop]\nprofile = "shop.toml"\nbackup.repository = "backups"\n'
            '[apps.shop.databases]\nmain = "main.db"\nother = "o.db"\n'
        )
        backup = answer("backup", "create", "--db", "main")["data"]["id"]
        error = answer("restore", "apply", backup, "--db", "other", "--yes", status=5)["error"]
    assert error["message"].endswith("/backups/shop contains other")
    assert error["hint"].endswith("backup list --db other --app shop")
