"""Secrets of the configuration: the places in which a name is looked up, and commands that print secrets."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dbctl.config import environment, loader, secrets
from dbctl.config.sections import Selection, read_sections
from dbctl.errors.usage import ConfigInvalidError, ConfigUntrustedError
from dbctl.errors.users import PepperMissingError

MARK = "hunter2-marked"
APP = '[apps.shop]\nprofile = "plain"\ndatabases = "postgresql://u:${SHOP_PASSWORD}@h/d"\n'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DBCTL_CONFIG", "CREDENTIALS_DIRECTORY", "SHOP_PASSWORD", "SHOP_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment, "CONTAINER_SECRETS", tmp_path / "run/secrets")
    environment.use_secrets({}, tmp_path)
    yield tmp_path
    environment.use_secrets({}, tmp_path)


def write_config(folder, text):
    (folder / "dbctl.toml").write_text(APP + text)


def read_password():
    return loader.find_app(Selection()).databases["main"].password.reveal()


def write_program(folder, text, name="program"):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def catch_reason():
    with pytest.raises(ConfigInvalidError) as caught:
        loader.find_app(Selection())
    assert MARK not in f"{caught.value}{caught.value.hint}"
    return str(caught.value.context["reason"])


def test_places_have_precedence(folder, monkeypatch):
    write_config(folder, "")
    assert "SHOP_PASSWORD" in catch_reason()
    (folder / "run/secrets").mkdir(parents=True)
    (folder / "run/secrets/SHOP_PASSWORD").write_text("container\n")
    assert read_password() == "container"
    (folder / "credentials").mkdir()
    (folder / "credentials/SHOP_PASSWORD").write_text("credential")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder / "credentials"))
    assert read_password() == "credential"
    (folder / "file").write_text("file")
    monkeypatch.setenv("SHOP_PASSWORD_FILE", str(folder / "file"))
    assert read_password() == "file"
    monkeypatch.setenv("SHOP_PASSWORD", "variable")
    assert read_password() == "variable"
    (folder / "section").write_text("section\r\n")
    write_config(folder, '[secrets.SHOP_PASSWORD]\nfile = "section"\n')
    assert read_password() == "section"
    (folder / ".env").write_text("SHOP_PASSWORD=app\n")
    (folder / "dbctl.toml").write_text(APP.replace("databases", 'env_file = ".env"\ndatabases'))
    assert read_password() == "app"


def test_file_of_a_secret_may_be_a_credential(folder, monkeypatch):
    (folder / "shop-db").write_text(MARK)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    write_config(folder, '[secrets.SHOP_PASSWORD]\nfile = "${CREDENTIALS_DIRECTORY}/shop-db"\n')
    assert read_password() == MARK


def test_first_line_of_a_command_is_the_secret(folder):
    write_program(folder, f"printf '{MARK}/@ x\\r\\nlogin: shop\\n'; echo noise >&2")
    write_config(folder, '[secrets.SHOP_PASSWORD]\ncommand = ["./program"]\n')
    assert read_password() == f"{MARK}/@ x"


def test_command_gets_no_shell_and_no_input(folder):
    write_program(folder, 'cat; printf "%s|" "$@"')
    write_config(folder, '[secrets.SHOP_PASSWORD]\ncommand = ["./program", "a b", "$HOME", "*", ";id"]\n')
    assert read_password() == "a b|$HOME|*|;id|"


def test_command_runs_once_and_only_if_its_secret_is_used(folder):
    write_program(folder, f"echo x >> {folder}/runs; echo {MARK}")
    write_config(
        folder,
        '[apps.other]\nprofile = "plain"\ndatabases = "o.db"\n[secrets.SHOP_PASSWORD]\ncommand = ["./program"]\n',
    )
    loader.find_app(Selection(app="other"))
    assert not (folder / "runs").exists()
    for _ in range(3):
        loader.find_app(Selection(app="shop"))
    assert (folder / "runs").read_text() == "x\n"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f"echo {MARK}; echo {MARK} >&2; exit 3", "status 3"),
        (f"echo {MARK} >&2; kill -9 $$", "SIGKILL"),
        ("true", "empty"),
        (f"echo; echo {MARK}", "empty"),
        ("printf '\\377\\n'", "UTF-8"),
        (f"yes {MARK}", "1 MiB"),
        (f"echo {MARK}; sleep 60", "1 s"),
        (f"echo {MARK}; sleep 60 & wait", "1 s"),
    ],
)
def test_failed_command_is_reported_without_its_output(folder, script, reason):
    write_program(folder, script)
    seconds = "1s" if "sleep" in script else "20s"
    write_config(folder, f'[secrets.SHOP_PASSWORD]\ncommand = ["./program"]\ntimeout = "{seconds}"\n')
    began = time.monotonic()
    assert reason.replace("1 s", "1 s") in catch_reason()
    assert time.monotonic() - began < 15


def test_missing_program_is_reported(folder):
    write_config(folder, '[secrets.SHOP_PASSWORD]\ncommand = ["none-such-program"]\n')
    assert "No such file" in catch_reason()


def test_command_is_ended_with_its_children_by_a_signal(folder):
    write_program(folder, f"echo $$ > {folder}/pid; sleep 300 & wait")
    write_config(folder, '[secrets.SHOP_PASSWORD]\ncommand = ["./program"]\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "dbctl", "stats", "tables"], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    while not ((folder / "pid").exists() and (folder / "pid").read_text().strip()):
        time.sleep(0.02)
    group = int((folder / "pid").read_text())
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 143, error
    while list_group(group):  # the kernel still ends it
        time.sleep(0.02)


def list_group(group):
    """Return the processes of a group that have not ended."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = path.read_text().rpartition(")")[2].split()
            members += [path] if int(fields[2]) == group and fields[0] not in "ZX" else []
    return members


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("[secrets.SHOP_PASSWORD]\n", "secrets.SHOP_PASSWORD"),
        ('[secrets.SHOP_PASSWORD]\nfile = "x"\ncommand = ["y"]\n', "secrets.SHOP_PASSWORD"),
        ('[secrets.SHOP_PASSWORD]\ncommand = [""]\n', "secrets.SHOP_PASSWORD.command"),
        ('[secrets.SHOP_PASSWORD]\ncommand = "pass show x"\n', "secrets.SHOP_PASSWORD.command"),
        ('[secrets.SHOP_PASSWORD]\nfile = "x"\ntimeout = "0s"\n', "secrets.SHOP_PASSWORD.timeout"),
        ('[secrets.shop-password]\nfile = "x"\n', "secrets.shop-password"),
    ],
)
def test_invalid_secret_is_reported_with_its_key(folder, section, key):
    write_config(folder, section)
    with pytest.raises(ConfigInvalidError) as caught:
        loader.find_app(Selection())
    assert caught.value.context["key"] == key


def test_unreadable_file_is_reported(folder):
    write_config(folder, '[secrets.SHOP_PASSWORD]\nfile = "none"\n')
    assert "secrets.SHOP_PASSWORD" in catch_reason()
    (folder / "none").write_bytes(b"\xff")
    assert "UTF-8" in catch_reason()
    (folder / "none").unlink()
    os.mkfifo(folder / "none")
    assert "regular" in catch_reason()


def test_passphrases_and_peppers_are_secrets(folder):
    write_program(folder, f"echo {MARK}-$1")
    names = ("PASSPHRASE", "PEPPER", "AWS_SECRET_ACCESS_KEY")
    write_config(
        folder,
        'pepper_env = "PEPPER"\n'
        '[apps.shop.backup]\nrepository = "backups"\nencrypt = { passphrase_env = "PASSPHRASE" }\n'
        + "".join(
            f'[secrets.{name}]\ncommand = ["./program", "{name}"]\n' for name in (*names, "SHOP_PASSWORD")
        ),
    )
    app = loader.find_app(Selection())
    assert secrets.read_pepper(app).reveal() == f"{MARK}-PEPPER"
    assert secrets.find_decryption_files(app).read_passphrase().reveal() == f"{MARK}-PASSPHRASE"
    assert environment.read_storage_variables(["AWS_SECRET_ACCESS_KEY", "AWS_REGION"]) == {
        "AWS_SECRET_ACCESS_KEY": f"{MARK}-AWS_SECRET_ACCESS_KEY"
    }
    write_program(folder, f"echo {MARK}; exit 1")
    environment.use_secrets({}, folder)
    environment.use_secrets(read_sections(folder / "dbctl.toml").secrets, folder)
    with pytest.raises(PepperMissingError) as caught:
        secrets.read_pepper(app)
    assert MARK not in f"{caught.value}{caught.value.hint}"


def test_backup_is_encrypted_with_the_passphrase_of_a_command(folder, answer):
    write_program(folder, f"echo {MARK}")
    subprocess.run(
        [sys.executable, "-c", "import sqlite3; sqlite3.connect('shop.db').execute('create table t (a)')"],
        check=True,
    )
    (folder / "dbctl.toml").write_text(
        '[apps.shop]\nprofile = "plain"\ndatabases = "shop.db"\n[apps.shop.backup]\nrepository = "backups"\n'
        'encrypt = { passphrase_env = "PASSPHRASE" }\n[secrets.PASSPHRASE]\ncommand = ["./program"]\n'
    )
    created = answer("backup", "create")["data"]
    assert answer("backup", "verify", created["id"])["data"]["findings"] == []
    assert any(path.name.endswith(".age") for path in (folder / "backups").rglob("*"))


def test_configuration_is_shown_and_listed_without_running_commands(folder, answer):
    write_program(folder, f"touch {folder}/ran; echo {MARK}")
    write_config(folder, '[secrets.SHOP_PASSWORD]\ncommand = ["./program"]\n')
    shown = answer("config", "show")
    assert {item["key"]: item["value"] for item in shown["data"]["items"]}[
        "secrets.SHOP_PASSWORD.command"
    ] == ["./program"]
    assert not (folder / "ran").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="requires root")
def test_root_runs_no_commands_of_other_users(folder):
    write_program(folder, f"echo {MARK}")
    write_config(folder, '[secrets.SHOP_PASSWORD]\ncommand = ["./program"]\n')
    file, part = folder / "dbctl.toml", folder / "dbctl.d"
    assert read_password() == MARK
    file.chmod(0o666)
    with pytest.raises(ConfigUntrustedError, match=r"dbctl\.toml"):
        read_password()
    file.chmod(0o644)
    shutil.chown(file, 65534)
    with pytest.raises(ConfigUntrustedError):
        read_password()
    shutil.chown(file, 0)
    folder.chmod(0o777)
    with pytest.raises(ConfigUntrustedError):
        read_password()
    folder.chmod(0o1777)  # others may add files to the folder, but not replace these
    assert read_password() == MARK
    folder.chmod(0o700)
    part.mkdir(mode=0o777)
    part.chmod(0o777)
    assert read_password() == MARK
    (part / "shop.toml").write_text("")
    with pytest.raises(ConfigUntrustedError, match=r"dbctl\.d"):
        read_password()
    part.chmod(0o1777)
    assert read_password() == MARK
    shutil.chown(part / "shop.toml", 65534)  # added by another user
    with pytest.raises(ConfigUntrustedError, match=r"dbctl\.d"):
        read_password()


@pytest.mark.skipif(os.geteuid() != 0, reason="requires root")
def test_configuration_without_commands_may_belong_to_a_user(folder, monkeypatch):
    monkeypatch.setenv("SHOP_PASSWORD", MARK)
    write_config(folder, "")
    shutil.chown(folder / "dbctl.toml", 65534)
    assert read_password() == MARK
