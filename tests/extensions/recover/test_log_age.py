"""The age of a stored log: reported by the limit of its database, but not for a server that has written nothing since then."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.services.backup import manifest as backup_manifest


def limit(folder, text):
    config = folder / "dbctl.toml"
    lines = [line for line in config.read_text().splitlines() if "max_log_age" not in line]
    config.write_text("\n".join([*lines, f'backup.databases.main.max_log_age = "{text}"', ""]))


def read_log_due(answer, *, status=0):
    """Return why the log is due; None: it is not."""
    (database,) = answer("backup", "status", "--check", status=status)["data"]["databases"]
    return database["due"].get("log")


def backdate(hours):
    """Move the times of all backups and of their content back."""
    for file in Path("backups/shop").glob("*/manifest.json"):
        manifest = backup_manifest.parse(file.read_bytes())
        shift = timedelta(hours=hours)
        members = [structs.replace(member, taken_at=member.taken_at - shift) for member in manifest.members]
        changed = structs.replace(
            manifest,
            members=members,
            created_at=manifest.created_at - shift,
            verified_at=manifest.verified_at - shift,
        )
        file.write_text(backup_manifest.serialize(changed))


@pytest.mark.slow
def test_log_without_a_limit_is_never_due(shop, answer):
    answer("backup", "create")
    answer("backup", "log")
    answer("backup", "create", "--physical")
    backdate(1000)
    assert read_log_due(answer) is None


@pytest.mark.slow
def test_limit_requires_a_copy_and_its_log(shop, answer, tmp_path):
    answer("backup", "create")
    limit(tmp_path, "1h")
    assert "no copy" in read_log_due(answer, status=3)
    answer("backup", "log")
    answer("backup", "create", "--physical")
    assert read_log_due(answer) is None
    limit(tmp_path, "0s")
    assert "0s" in read_log_due(answer, status=3)
    codes = [finding["code"] for finding in answer("doctor", status=None)["data"]["findings"]]
    assert "log-due" in codes


@pytest.mark.slow
def test_log_of_a_server_that_has_written_nothing_is_not_due(shop, answer, tmp_path):
    answer("backup", "create")
    answer("backup", "log")
    answer("backup", "create", "--physical")
    shop.sell(1)
    answer("backup", "log")
    limit(tmp_path, "1h")
    backdate(2)
    assert "1h" in read_log_due(answer, status=3)
    assert answer("backup", "log")["data"]["id"] is None
    assert read_log_due(answer) is None
    answer("backup", "copy", "--to", "second")  # the copy has the record, too
    assert (
        answer("backup", "status", "--check", "--repository", "second")["data"]["databases"][0]["due"] == {}
    )


@pytest.mark.slow
def test_gap_of_the_log_fails_the_check(shop, answer, tmp_path):
    answer("backup", "create")
    answer("backup", "log")
    answer("backup", "create", "--physical")
    for _ in range(2):
        shop.sell(1)
        answer("backup", "log")
    limit(tmp_path, "1h")
    missing = answer("backup", "list", "--kind", "log")["data"]["items"][1]
    shutil.rmtree(missing["path"])
    (database,) = answer("backup", "status", "--check", status=3)["data"]["databases"]
    assert database["recoverable"]["unusable"]
    assert database["due"] == {}


@pytest.mark.slow
def test_metrics_have_the_moments_that_can_be_recovered(shop, answer, tmp_path):
    def read(name, **labels):
        return [
            sample["value"]
            for sample in answer("metrics")["data"]["items"]
            if sample["name"] == f"dbctl_backup_{name}" and labels.items() <= sample["labels"].items()
        ]

    answer("backup", "create")
    assert read("recoverable_since_timestamp_seconds") == read("due", action="log") == []
    answer("backup", "log")
    answer("backup", "create", "--physical")
    shop.sell(1)
    answer("backup", "log")
    (database,) = answer("backup", "status")["data"]["databases"]
    for name in ("since", "until"):
        time = datetime.fromisoformat(database["recoverable"][name])
        seconds = [pytest.approx(time.timestamp(), abs=0.001)]
        assert read(f"recoverable_{name}_timestamp_seconds", database="main") == seconds
    assert read("due", action="log") == [0]
    limit(tmp_path, "0s")
    assert read("due", action="log") == [1]


def test_invalid_limit_is_refused(shop, answer, tmp_path):
    limit(tmp_path, "soon")
    assert answer("backup", "status", status=2)["error"]["code"] == "config-invalid"
