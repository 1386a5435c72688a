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
