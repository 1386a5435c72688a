"""Metrics as Prometheus reads them: values, hostile names, unreachable apps, the file, the dashboard and the alert rules."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dbctl.cli.main import main
from dbctl.extensions.metrics.families import FAMILIES, PREFIX
from dbctl.model import now
from dbctl.services.events.samples import Sample, save_samples
from tests.services import flashpoint_app

MONITORING = Path(__file__).parents[3] / "docs/extensions/metrics"
NAMES = {PREFIX + family.name: set(family.labels) for family in FAMILIES}
HOSTILE = 'a"b\\c\nd{e="f"} <x> 🦉'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Create an app with a journal, a repository and one backup."""
    folder = tmp_path / "app"
    flashpoint_app.create_valid_app(folder, "deployed")
    config = folder / "dbctl.toml"
    text = config.read_text().partition("[apps.fp.backup]")[0]
    config.write_text(
        text + '[apps.fp.backup]\nrepository = "backups"\nmax_age = "26h"\ndrill_within = "9d"\n'
        f'[journal]\nfolder = "{folder}/state"\n'
    )
    monkeypatch.delenv("DBCTL_STATE", raising=False)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def metrics(capsys):
    """Return a function that runs ``metrics`` and returns the values by name and labels."""

    def run(*words):
        capsys.readouterr()
        assert main(["metrics", *words]) == 0
        return read_values(capsys.readouterr().out)

    return run


def read_values(text):
    return {  # labels are in alphabetical order
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def add_app(folder, name, url, profile="plain"):
    config = folder / "dbctl.toml"
    key = json.dumps(name, ensure_ascii=False)
    config.write_text(
        f'{config.read_text()}[apps.{key}]\nprofile = "{profile}"\n[apps.{key}.databases]\nmain = "{url}"\n'
    )


def test_values_are_those_of_other_commands(folder, metrics, answer):
    assert main(["backup", "create", "-q"]) == 0
    values = metrics()
    (backup,) = answer("backup", "status")["data"]["databases"]
    (run,) = answer("runs", "list")["data"]["items"]
    assert values["dbctl_up", "fp"] == 1
    assert values["dbctl_users", "fp"] == answer("users", "list")["data"]["total"]
    assert values["dbctl_backup_size_bytes", "fp", "user"] == backup["bytes"]
    assert values["dbctl_backup_max_age_seconds", "fp"] == 26 * 3600
    assert values["dbctl_backup_database_max_age_seconds", "fp", "user"] == 26 * 3600
    assert values["dbctl_backup_duration_seconds", "fp"] == run["duration"]
    assert values["dbctl_backup_due", "create", "fp", "user"] == 0
    assert values["dbctl_backup_due", "drill", "fp", "user"] == 1
    assert values["dbctl_run_last_exit_code", "fp", "backup create"] == 0
    assert values["dbctl_database_size_bytes", "fp", "user"] == (folder / "user.db").stat().st_size
    assert values["dbctl_findings", "fp", "warning"] > 0
    created = values["dbctl_backup_last_success_timestamp_seconds", "fp", "user"]
    assert math.isclose(
        values["dbctl_collected_timestamp_seconds",] - created,
        values["dbctl_backup_age_seconds", "fp", "user"],
        abs_tol=1,
    )


def test_failed_backup_is_counted_until_the_next_success(folder, metrics):
    assert main(["backup", "create", "-q"]) == 0
    (folder / "user.db").rename("elsewhere")
    for _ in range(2):
        assert main(["backup", "create", "-q"]) == 10
    values = metrics()
    assert values["dbctl_up", "fp"] == values["dbctl_database_up", "fp", "user"] == 0
    assert values["dbctl_run_failures", "fp", "backup create"] == 2
    assert values["dbctl_run_last_success", "fp", "backup create"] == 0
    assert values["dbctl_run_last_exit_code", "fp", "backup create"] == 10
    assert values["dbctl_backups", "fp", "user"] == 2
    (folder / "elsewhere").rename("user.db")
    assert main(["backup", "create", "-q"]) == 0
    assert metrics()["dbctl_run_failures", "fp", "backup create"] == 0


def test_growth_and_prediction_are_those_of_the_samples(folder, metrics, answer):
    size, gib = 1000, 1 << 30
    for age in range(10, 0, -1):
        sample = Sample(
            app="fp",
            database="user",
            taken_at=now() - timedelta(days=age),
            bytes=size * (11 - age),
            free_bytes=age * gib,
            tables={},
        )
        save_samples(folder / "state", str(folder / "dbctl.toml"), [sample])
    values = metrics()
    (growth,) = answer("stats", "history")["data"]["databases"]
    assert values["dbctl_database_growth_bytes_per_day", "fp", "user"] == growth["bytes_per_day"] == size
    assert values["dbctl_database_disk_full_seconds", "fp", "user"] == growth["days_until_full"] * 86_400


def test_app_that_cannot_be_read_does_not_affect_others(folder, metrics):
    add_app(folder, "unreachable", "postgresql://nobody@127.0.0.1:1/x")
    add_app(folder, "unset", "${NO_SUCH_VARIABLE}")
    add_app(folder, "no profile", "user.db", profile="nosuch.toml")
    values = metrics()
    assert values["dbctl_up", "fp"] == 1
    assert [values["dbctl_up", name] for name in ("unreachable", "unset", "no profile")] == [0, 0, 0]
    assert values["dbctl_collection_errors", "unset"] == 1


def test_damaged_journal_is_an_error_of_the_collection(folder, metrics):
    (folder / "state").mkdir()
    (folder / "state/events.sqlite").write_bytes(b"no journal" * 1000)
    values = metrics()
    assert (values["dbctl_up", "fp"], values["dbctl_collection_errors", "fp"]) == (1, 1)


def test_hostile_names_are_escaped(folder, metrics):
    add_app(folder, HOSTILE, "user.db")
    values = metrics()
    assert values["dbctl_up", HOSTILE] == values["dbctl_database_up", HOSTILE, "main"] == 1


def test_instances_of_a_fleet_have_separate_metrics(folder, metrics):
    for name in ("one", "two"):
        (folder / f"{name}.db").write_bytes((folder / "user.db").read_bytes())
    (folder / "user.db").rename("user.sqlite")
    config = folder / "dbctl.toml"
    config.write_text(re.sub(r'(user = ")[^"]*"', rf'\1{folder}/*.db"', config.read_text()))
    values = metrics()
    assert values["dbctl_up", "fp/one"] == values["dbctl_up", "fp/two"] == 1


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_file_is_replaced_completely_and_readable_by_all(folder, umask, capsys):
    file = folder / "dbctl.prom"
    previous = os.umask(umask)
    try:
        for text in (None, "old"):
            if text:
                file.write_text(text)
            assert main(["metrics", "--write", str(file), "-o", "json"]) == 0
            assert file.stat().st_mode & 0o777 == 0o644
            assert read_values(file.read_text())["dbctl_up", "fp"] == 1
    finally:
        os.umask(previous)
    assert [path.name for path in folder.glob("*dbctl.prom*")] == ["dbctl.prom"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["data"]["apps"] == 1


@pytest.mark.parametrize("path", ["nosuch/x.prom", "backups", "/dev/full"])
def test_unsuitable_file_is_refused(folder, path, capsys):
    (folder / "backups").mkdir(exist_ok=True)
    assert main(["metrics", "--write", path, "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "file-failed"


def test_selected_app_must_exist(folder, capsys):
    assert main(["metrics", "--app", "nosuch", "-o", "json"]) == 5
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "app-missing"


def test_missing_library_is_reported_with_its_extra(folder):
    code = "import sys; sys.modules['prometheus_client'] = None\nfrom dbctl.cli.main import main\nsys.exit(main(['metrics']))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert "dbctl[metrics]" in process.stderr


def test_json_has_the_same_values(folder, metrics, answer):
    samples = answer("metrics")["data"]["items"]
    assert {sample["name"] for sample in samples} == {name for name, *_ in metrics()}


def list_dashboard_expressions():
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    return [
        target["expr"].replace("$app", "x") for panel in dashboard["panels"] for target in panel["targets"]
    ]


def list_rules():
    rules = yaml.safe_load((MONITORING / "dbctl.rules.yml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


def test_dashboard_and_alerts_use_existing_metrics_and_labels():
    expressions = [*list_dashboard_expressions(), *(rule["expr"] for rule in list_rules())]
    for expression in expressions:
        names = re.findall(r"dbctl_\w+", expression)
        assert names
        for name in names:
            assert name in NAMES, expression
        for name, matchers in re.findall(r"(dbctl_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)=", matchers)) <= NAMES[name], expression


def test_panels_do_not_overlap():
    panels = json.loads((MONITORING / "grafana-dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for position in [panel["gridPos"]]
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def run_promtool(*words, text=None):
    process = subprocess.run(["promtool", *words], input=text, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.slow
def test_prometheus_accepts_metrics_dashboard_and_rules(folder, tmp_path, capsys):
    assert main(["backup", "create", "-q"]) == 0
    capsys.readouterr()
    assert main(["metrics"]) == 0
    run_promtool("check", "metrics", text=capsys.readouterr().out)
    run_promtool("check", "rules", str(MONITORING / "dbctl.rules.yml"))
    panels = [
        {"alert": f"Panel{index}", "expr": expr} for index, expr in enumerate(list_dashboard_expressions())
    ]
    rules = tmp_path / "panels.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": panels}]}))
    run_promtool("check", "rules", str(rules))


#: The alert of each rule, and values for which it fires after two days, with labels in the order of the metric.
FIRING = {
    "DbctlMetricsOutdated": {"dbctl_collected_timestamp_seconds": "0x300"},
    "DbctlAppDown": {'dbctl_up{app="a"}': "0x300"},
    "DbctlBackupOverdue": {
        'dbctl_backup_last_success_timestamp_seconds{app="a",database="d"}': "0x300",
        'dbctl_backup_database_max_age_seconds{app="a",database="d"}': "93600x300",
    },
    "DbctlBackupMissing": {'dbctl_backups{app="a",database="d"}': "0x300"},
    "DbctlBackupInvalid": {'dbctl_backup_invalid{app="a"}': "1x300"},
    "DbctlBackupUnproven": {'dbctl_backup_due{app="a",database="d",action="drill"}': "1x300"},
    "DbctlLogOverdue": {'dbctl_backup_due{app="a",database="d",action="log"}': "1x300"},
    "DbctlRunFailed": {'dbctl_run_failures{app="a",command="backup create"}': "1x300"},
    "DbctlMigrationsPending": {'dbctl_migrations_pending{app="a",database="d"}': "2x300"},
    "DbctlCleanupOverdue": {'dbctl_cleanup_overdue_rules{app="a",database="d"}': "2x300"},
    "DbctlFindings": {'dbctl_findings{app="a",severity="error"}': "1x300"},
    "DbctlDiskAlmostFull": {
        'dbctl_database_free_bytes{app="a",database="d"}': "100x300",
        'dbctl_database_size_bytes{app="a",database="d"}': "60x300",
    },
    "DbctlDiskFullSoon": {'dbctl_database_disk_full_seconds{app="a",database="d"}': "86400x300"},
}


#: The newest backup is a difference, or refers to an earlier one; the next one may be full.
SMALL_INCREMENT = (
    "DbctlDiskAlmostFull",
    {
        'dbctl_backup_repository_free_bytes{app="a"}': "100x300",
        'dbctl_backup_size_bytes{app="a",database="d"}': "60 0x299",
    },
)


@pytest.mark.slow
def test_each_alert_fires_for_its_problem_and_no_other(tmp_path):
    assert sorted(FIRING) == sorted(rule["alert"] for rule in list_rules())
    labels = {rule["alert"]: rule["labels"]["severity"] for rule in list_rules()}
    tests = []
    for alert, series in [*FIRING.items(), SMALL_INCREMENT]:
        alerts = [
            {"eval_time": "48h", "alertname": name, "exp_alerts": []} for name in FIRING if name != alert
        ]
        tests.append(
            {
                "interval": "10m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": alerts,
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing", severity="{labels[alert]}"}})',
                        "eval_time": "48h",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                ],
            }
        )
    file = tmp_path / "test.yml"
    file.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(MONITORING / "dbctl.rules.yml")],
                "evaluation_interval": "10m",
                "tests": tests,
            }
        )
    )
    run_promtool("test", "rules", str(file))
