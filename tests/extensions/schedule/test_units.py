"""Units of systemd: accepted by systemd, run by a real service manager, installed and removed as a whole."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dbctl.cli.main import main
from dbctl.extensions.schedule.times import spread_seconds
from dbctl.extensions.schedule.units import quote_word
from tests.services import flashpoint_app

MANAGER = Path(__file__).with_name("service_manager.sh")
HOSTILE = "a 'b' \"c\" %d $HOME `x`; #é\\"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Create an app in a folder whose name needs quoting."""
    folder = tmp_path / "a b %d $HOME"
    flashpoint_app.create_valid_app(folder, "deployed")
    config = folder / "dbctl.toml"
    text = config.read_text().partition("[apps.fp.backup]")[0]
    config.write_text(
        text + '[apps.fp.backup]\nrepository = "backups"\nkeep = { last = 3 }\n'
        f'[journal]\nfolder = "{folder}/state"\n'
    )
    monkeypatch.delenv("DBCTL_STATE", raising=False)
    monkeypatch.chdir(folder)
    return folder


def add_app(folder, name, more=""):
    config = folder / "dbctl.toml"
    key = json.dumps(name, ensure_ascii=False)
    config.write_text(
        f'{config.read_text()}[apps.{key}]\nprofile = "plain"\n[apps.{key}.databases]\nmain = "user.db"\n'
        f'[apps.{key}.backup]\nrepository = "b"\nkeep = {{ last = 1 }}\n{more.replace("NAME", key)}'
    )


def install(directory, *words, status=0):
    assert main(["schedule", "systemd", "--install", "--directory", str(directory), "-q", *words]) == status
    return {path.name: path.read_text() for path in Path(directory).glob("dbctl-*")}


def list_names(units, kind):
    return sorted(name for name in units if name.endswith(kind))


def test_failed_job_starts_the_notifications_of_its_app(folder):
    config = folder / "dbctl.toml"
    assert "OnFailure" not in "".join(install("units").values())
    config.write_text(f'[notify.ntfy]\nurl = "http://localhost:9/topic"\n{config.read_text()}')
    units = install("units")
    assert "OnFailure=dbctl-notify-fp.service\n" in units["dbctl-backup-fp.service"]
    assert "OnFailure" not in units["dbctl-notify-fp.service"]
    summary = units["dbctl-summary-fp.service"]
    assert "OnFailure=dbctl-notify-fp.service\n" in summary
    assert "--app" not in summary
    assert (
        "OnFailure=other.service\n"
        in install("units", "--on-failure", "other.service")["dbctl-notify-fp.service"]
    )


def test_each_job_has_a_service_and_a_timer(folder, capsys):
    units = install("units")
    assert main(["schedule", "cron", "-o", "json"]) == 0
    jobs = json.loads(capsys.readouterr().out)["data"]["items"]
    assert list_names(units, ".timer") == sorted(f"dbctl-{job['name']}-fp.timer" for job in jobs)
    assert len(units) == 2 * len(jobs)
    assert {Path("units", name).stat().st_mode & 0o777 for name in units} == {0o644}


@pytest.mark.parametrize(
    ("route", "is_restricted"),
    [("podman:db", False), ("docker:db", False), ("compose:shop/db", False), ("ssh:host podman:db", True)],
)
@pytest.mark.parametrize("words", [(), ("--user",), ("--run-as", "nobody")])
def test_service_that_enters_a_container_is_not_restricted(folder, route, is_restricted, words):
    config = folder / "dbctl.toml"
    config.write_text(
        f'{config.read_text()}[apps.shop]\nprofile = "plain"\nvia = "{route}"\ndatabases = "postgresql://shop@127.0.0.1/shop"\n'
        '[apps.shop.backup]\nrepository = "b"\n'
    )
    units = install("units", "--all-apps", *words)
    assert ("RestrictNamespaces=" in units["dbctl-backup-shop.service"]) == is_restricted
    assert "UMask=0077\n" in units["dbctl-backup-shop.service"]
    assert "RestrictNamespaces=" in units["dbctl-backup-fp.service"]


@pytest.mark.slow
def test_systemd_accepts_units_with_exposure_ok(folder, tmp_path):
    add_app(folder, HOSTILE, '[apps.NAME.schedule]\nbackup = "*/7 1-3,5 1,15 jan-jun mon,7"\n')
    install("units", "--all-apps", "--on-failure", "notify@%n.service")
    paths = sorted(str(path) for path in Path("units").resolve().iterdir())
    (tmp_path / "notify@.service").write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:{Path('units').resolve()}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    for words in ((), ("--run-as", "nobody")):
        install("units", "--all-apps", *words)
        services = [path for path in paths if path.endswith(".service")]
        for path in services[:1] + services[-1:]:
            analyzed = subprocess.run(
                ["systemd-analyze", "security", "--offline=true", "--no-pager", path],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert re.search(r"Overall exposure level.*: [0-4]\.\d (OK|SAFE)", analyzed), analyzed[-200:]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount the folders of the manager")
def test_service_manager_runs_timers_and_services(folder, tmp_path):
    """The manager is that of a user, in its own mount namespace and control group; it starts the units of the system as well."""
    groups = Path("/proc/self/cgroup").read_text()
    config = folder / "dbctl.toml"
    config.write_text(config.read_text().replace('"backups"', '"${PLACE}/backups"'))
    # systemd hides /dev/shm while it copies credentials.
    with tempfile.NamedTemporaryFile("w", dir="/var/tmp", prefix="a b %d") as place:
        place.write(str(folder))
        place.flush()
        process = subprocess.run(
            [
                "unshare",
                "--mount",
                "bash",
                str(MANAGER),
                str(Path(sys.executable).with_name("dbctl")),
                str(tmp_path),
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "LANG": "C.UTF-8",
                "PLACE_FILE": place.name,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert process.returncode == 0, process.stdout + process.stderr
    assert Path("/proc/self/cgroup").read_text() == groups  # it has moved no other process
    lines = process.stdout.splitlines()
    timers = [line.split()[1] for line in lines if line.startswith("active ")]
    assert len(timers) == 6
    assert "removed inactive 0" in lines
    results = dict(line.split()[1:3] for line in lines if line.startswith("result "))
    assert len(results) == 12  # the jobs of the user, and those of the system
    assert {name for name, result in results.items() if result != "success"} == set(), process.stderr
    assert main(["runs", "list", "--command", "backup create"]) == 0
    assert len(list((folder / "backups").rglob("manifest.json"))) >= 2


def test_exec_start_is_the_command_of_the_crontab(folder, capsys):
    add_app(folder, HOSTILE)
    units = install("units", "--all-apps")
    assert main(["schedule", "cron", "--all-apps", "-o", "json"]) == 0
    jobs = json.loads(capsys.readouterr().out)["data"]["items"]
    commands = [shlex.split(job["command"].removesuffix(" > /dev/null")) for job in jobs]
    started = [read_command(units[name]) for name in list_names(units, ".service")]
    assert sorted(started) == sorted(commands)


def read_command(text):
    """Return the words of ``ExecStart``, as systemd reads them."""
    (line,) = re.findall("^ExecStart=(.*)$", text, re.MULTILINE)
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)
    return [
        re.sub(r"\\(.)", r"\1", quoted or plain).replace("%%", "%").replace("$$", "$")
        for quoted, plain in words
    ]


@pytest.mark.slow
def test_every_service_runs_as_written_in_a_minimal_environment(folder):
    for text in (text for name, text in install("units").items() if name.endswith(".service")):
        process = subprocess.run(
            read_command(text),
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "INVOCATION_ID": "0" * 32},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (process.returncode, process.stderr) == (0, ""), text


def test_second_installation_changes_nothing_and_removed_jobs_disappear(folder, answer):
    add_app(folder, "other")
    install("units", "--all-apps")
    result = answer("schedule", "systemd", "--all-apps", "--install", "--directory", "units")["data"]
    assert (result["written"], result["removed"]) == ([], [])
    config = folder / "dbctl.toml"
    config.write_text(config.read_text() + '[apps.fp.schedule]\nbackup = "5 5 * * *"\ndrill = "off"\n')
    plan = answer("schedule", "systemd", "--app", "fp", "--install", "--directory", "units", "--dry-run")
    assert plan["data"]["plan"]["steps"] == [
        "write dbctl-backup-fp.timer",
        "remove dbctl-drill-fp.service",
        "remove dbctl-drill-fp.timer",
    ]
    units = install("units", "--app", "fp")
    assert "05:05:" in units["dbctl-backup-fp.timer"]
    assert "dbctl-drill-fp.timer" not in units
    assert "dbctl-drill-other.timer" in units


def test_units_of_an_app_that_was_removed_disappear(folder):
    config = folder / "dbctl.toml"
    text = config.read_text()
    add_app(folder, "other")
    add_app(folder, "third")
    install("units", "--all-apps")
    config.write_text(text)
    add_app(folder, "third")
    units = install("units", "--app", "fp")
    assert not [name for name in units if "other" in name]
    assert "dbctl-backup-third.timer" in units


def test_units_disappear_if_all_jobs_are_off(folder):
    install("units")
    config = folder / "dbctl.toml"
    names = ("backup", "prune", "verify", "drill", "cleanup", "status")
    config.write_text(f"{config.read_text()}[apps.fp.schedule]\n" + "".join(f'{n} = "off"\n' for n in names))
    assert install("units") == {}


def test_units_of_an_unconfigured_app_remain_with_those_of_another_one(folder, monkeypatch):
    config = folder / "dbctl.toml"
    config.unlink()
    for name in ("one", "two"):
        install("units", "--profile", "plain", "--url", "main=user.db", "--app", name)
    assert "dbctl-status-one.timer" in install(
        "units", "--profile", "plain", "--url", "main=user.db", "--app", "two"
    )


def test_files_of_others_are_not_replaced(folder, answer):
    Path("units").mkdir()
    foreign = Path("units/dbctl-verify-fp.service")
    foreign.write_text("[Service]\nExecStart=/bin/true\n")
    response = answer("schedule", "systemd", "--install", "--directory", "units", status=6)
    assert response["error"]["code"] == "unit-foreign"
    assert [path.name for path in Path("units").iterdir()] == [foreign.name]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--directory", "units"], 2),
        (["--user", "--run-as", "root"], 2),
        (["--run-as", "no such user"], 2),
        (["--on-failure", "x.service\nExecStart=/bin/sh"], 2),
        (["--on-failure", "nonsense"], 2),
        (["--delay", "soon"], 2),
        (["--install", "--directory", "dbctl.toml"], 1),
    ],
)
def test_unsuitable_options_are_refused(folder, words, code):
    assert main(["schedule", "systemd", *words]) == code
    assert not Path("units").exists()


def test_too_long_name_of_unit_is_refused(folder, answer):
    add_app(folder, "x" * 250)
    assert answer("schedule", "systemd", "--all-apps", status=2)["error"]["code"] == "usage"


def test_secrets_become_credentials(folder, monkeypatch):
    config = folder / "dbctl.toml"
    (folder / "key").write_text("hunter2\n")
    config.write_text(
        config.read_text().replace('"backups"', '"${PLACE}/${BASE}"')
        + '[secrets.BASE]\nfile = "key"\n[secrets.STORAGE]\nfile = "${CREDENTIALS_DIRECTORY}/storage-key"\n'
    )
    (folder / "place").write_text(str(folder))
    monkeypatch.setenv("PLACE_FILE", str(folder / "place"))
    text = install("units")["dbctl-backup-fp.service"]
    escaped = str(folder).replace("%", "%%")
    assert re.findall("^LoadCredential=(.*)$", text, re.MULTILINE) == [
        f"BASE:{escaped}/key",
        "storage-key",
        f"PLACE:{escaped}/place",
    ]
    assert "hunter2" not in text
    # A service that cannot read the file of the secret reads the credential.
    credentials = folder / "credentials"
    credentials.mkdir()
    (credentials / "BASE").write_text("from systemd")
    (folder / "key").unlink()
    environment = {**os.environ, "CREDENTIALS_DIRECTORY": str(credentials)}
    subprocess.run(read_command(text), env=environment, check=True)
    assert (folder / "from systemd").is_dir()


def test_data_below_read_only_folders_stays_writable(folder):
    add_app(folder, "etc")
    config = folder / "dbctl.toml"
    config.write_text(config.read_text().replace('repository = "b"', 'repository = "/etc/$x %y"'))
    units = install("units", "--all-apps")
    assert '\nReadWritePaths="-/etc/$x %%y"\n' in units["dbctl-backup-etc.service"]
    assert "ReadWritePaths" not in units["dbctl-backup-fp.service"]


def test_folder_with_the_instances_of_a_fleet_stays_writable(folder):
    for name, address in (
        ("folders", "/usr/local/tenants/*/app.db"),
        ("files", "/usr/local/shops/shop_*.db"),
    ):
        with (folder / "dbctl.toml").open("a") as file:
            file.write(f'\n[apps.{name}]\nprofile = "plain"\ndatabases = "{address}"\n')
    units = install("units", "--all-apps")
    assert "\nReadWritePaths=-/usr/local/tenants\n" in units["dbctl-status-folders.service"]
    assert "\nReadWritePaths=-/usr/local/shops\n" in units["dbctl-status-files.service"]


def test_different_apps_have_different_seconds_and_units(folder, answer):
    names = ["a b", "a-b", "a/b", "a:b", "ä", *(f"app{number}" for number in range(20))]
    for name in names:
        add_app(folder, name, '[apps.NAME.schedule]\nbackup = "0 2 * * *"\n')
    units = answer("schedule", "systemd", "--all-apps")["data"]["items"]
    assert len({unit["name"] for unit in units}) == len(units)
    starts = [
        re.findall("^OnCalendar=(.*)$", unit["text"], re.MULTILINE)
        for unit in units
        if unit["name"].endswith(".timer") and unit["job"] == "backup"
    ]
    assert len({start for (start,) in starts}) == len(starts) == len(names) + 1
    alone = answer("schedule", "systemd", "--app", "app7")["data"]["items"]
    assert [unit for unit in units if unit["app"] == "app7"] == alone


def test_seconds_are_stable_and_even():
    seconds = spread_seconds(f"app{number}" for number in range(120))
    assert sorted(seconds.values()) == sorted(2 * list(range(60)))
    assert spread_seconds(["a"])["a"] == spread_seconds(["a"])["a"]


def test_words_are_quoted_for_systemd():
    assert quote_word("/usr/bin/x") == "/usr/bin/x"
    assert quote_word(";") == '";"'
    assert quote_word('a%b $C "d" \\') == '"a%%b $$C \\"d\\" \\\\"'
