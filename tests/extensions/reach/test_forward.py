"""Commands that change files of another machine, which dbctl of that machine runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pexpect
import pytest

from dbctl import __version__
from tests.crash.figures import choose_count, create_rng
from tests.crash.forge import KillTimer
from tests.extensions.reach.processes import SECONDS, find_ssh, wait_until, wait_until_empty
from tests.in_process import ROOT

SITE_NAME = "select value from system_settings where key = 'siteName'"
LOGINS = "select username from users order by id"


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Provide the databases of an app with users, from which each test has a copy."""
    folder = tmp_path_factory.mktemp("sample") / "app"
    words = ["demo", "flashpoint-web", str(folder), "--games", "5", "--users", "3", "--plays", "3"]
    environment = {**os.environ, "DBCTL_STATE": "off"}
    subprocess.run([sys.executable, "-m", "dbctl", *words], check=True, capture_output=True, env=environment)
    return folder


class Machine:
    """A host behind SSH with the databases of an app, and perhaps dbctl."""

    def __init__(self, folder, sample, host):
        self.data, self.temporary, self.programs = (
            folder / name for name in ("data's $x", "tmp", "programs")
        )
        for path in (self.temporary, self.programs):
            path.mkdir(parents=True)
        shutil.copytree(sample, self.data)
        self.home = folder / "home"
        self.home.mkdir()
        self.path, self.host = next(self.data.rglob("user.db")), host
        self.set_path(os.environ["PATH"])

    def set_path(self, text):
        variables = {"PATH": f"{self.programs}:{text}", "TMPDIR": str(self.temporary), "HOME": str(self.home)}
        self.host.set_environment(variables)

    def install(self, script=""):
        """Install dbctl; ``script`` runs before it."""
        program = self.programs / "dbctl"
        program.write_text(f'#!/bin/sh\n{script}\nexec {sys.executable} -m dbctl "$@"\n')
        program.chmod(0o755)

    def read(self, sql, *values):
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql, values).fetchall()


@pytest.mark.parametrize("vias", [("ssh:one", "ssh:two"), ("ssh:one docker:box",) * 2])
def test_app_whose_files_are_not_on_one_machine_is_not_changed(answer, tmp_path, monkeypatch, vias):
    monkeypatch.chdir(tmp_path)
    databases = zip(("user", "flashpoint"), vias, strict=True)
    (tmp_path / "dbctl.toml").write_text(
        '[apps.arcade]\nprofile = "flashpoint-web"\n[apps.arcade.databases]\n'
        + "".join(f'{name} = {{ url = "/srv/{name}.db", via = "{via}" }}\n' for name, via in databases)
    )
    error = answer("settings", "set", "app.siteName", "x", status=6)["error"]
    assert error["code"] == "routed-read-only"


@pytest.fixture(params=["ssh:bastion"])
def via(request):
    return request.param


@pytest.fixture
def machine(ssh_hosts, tmp_path, sample, via):
    host = ssh_hosts.inner if "inner" in via else ssh_hosts.bastion
    machine = Machine(tmp_path / "machine", sample, host)
    machine.install()
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.arcade]\nprofile = "flashpoint-web"\nvia = "{via}"\nbackup.repository = "backups"\n'
        f'[apps.arcade.databases]\nuser = "{machine.path}"\n'
        f'flashpoint = "{next(machine.data.rglob("flashpoint.sqlite"))}"\n'
    )
    return machine


@pytest.fixture
def remote(dbctl, machine):
    """Run a command that leaves nothing but its change on the machine."""

    def run(*words, status=0, **options):
        result = dbctl(*words, status=status, **options)
        wait_until_empty(machine.temporary)
        return result

    return run


def read_error(result):
    return json.loads(result.stdout)["error"]


@pytest.mark.slow
@pytest.mark.parametrize("via", ["ssh:bastion ssh:inner"], indirect=True)
def test_commands_change_the_files_there(remote, machine, via):
    remote("users", "create", "ada", "--email", "ada@example.org", "--generate")
    assert machine.read(LOGINS)[-1] == ("ada",)
    result = remote("users", "set-role", "ada", "moderator", "--yes")
    assert f"note: {via.rpartition(':')[2]} runs this command" in result.stderr
    remote("roles", "create", "editor", "--priority", "7")
    remote("roles", "grant", "editor", "users.read")
    remote("settings", "set", "app.siteName", "New name")
    remote("users", "set-password", "ada", "--password-stdin", text="long enough 4 you\n")
    remote("sessions", "revoke", "demo", "--yes")
    remote("sessions", "cleanup", "--yes")
    remote("data", "set", "users", "2", "email=m@example.org")
    remote("maintain", "vacuum", "--db", "user", "--yes")
    remote("users", "delete", "visitor", "--yes")
    assert ("visitor",) not in machine.read(LOGINS)
    assert machine.read("select email from users where id = 2") == [("m@example.org",)]
    assert machine.read("select priority from roles where name = 'editor'") == [(7,)]
    assert machine.read(SITE_NAME) == [("New name",)]


@pytest.mark.slow
def test_undo_uses_the_log_there(remote, machine, dbctl, tmp_path):
    environment = {"DBCTL_STATE": str(tmp_path / "state")}
    remote("users", "set-role", "demo", "guest", "--yes", environment=environment)
    remote("users", "set-role", "nobody", "guest", "--yes", environment=environment, status=5)
    runs = json.loads(dbctl("runs", "list", "-o", "json", environment=environment).stdout)["data"]["items"]
    assert [(run["command"], run["exit_code"]) for run in runs] == [
        ("users set-role", 5),
        ("users set-role", 0),
    ]
    (operation,) = json.loads(remote("audit", "list", "-o", "json").stdout)["data"]["items"]
    assert operation["command"] == "users set-role"
    remote("undo", operation["operation"], "--yes")
    assert machine.read("select role_id from users where username = 'demo'") == [(2,)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        'two words, it\'s "quoted" `here` $(touch /tmp/never) $HOME; exit 1 | cat > x &',
        "~ * \\ é\nb\n\n",
        "--yes",
    ],
)
def test_words_arrive_as_typed(remote, machine, text):
    remote("roles", "create", "writer", f"--description={text}")
    assert machine.read("select description from roles where name = 'writer'") == [(text,)]
    remote("settings", "set", "app.siteName", "--", text)
    assert machine.read(SITE_NAME) == [(text,)]


@pytest.mark.slow
def test_output_and_status_are_those_of_the_machine(remote, machine, dbctl, tmp_path):
    (tmp_path / "direct").mkdir()
    text = (tmp_path / "dbctl.toml").read_text().replace('via = "ssh:bastion"\n', "")
    (tmp_path / "direct" / "dbctl.toml").write_text(text)
    for words, status, output in (
        (["users", "delete", "nobody", "--yes"], 5, "json"),
        (["users", "set-role", "admin", "user", "--yes"], 6, "table"),
        (["users", "delete", "demo"], 6, "json"),
        (["users", "delete", "demo", "--dry-run"], 0, "table"),
        (["sessions", "cleanup", "--check"], 3, "json"),
        (["settings", "set", "auth.maxLoginAttempts", "0"], 2, "table"),
    ):
        environment = {"DBCTL_STATE": str(machine.home)}
        options = {"folder": tmp_path / "direct", "environment": environment}
        direct = dbctl(*words, "-o", output, status=status, **options)
        result = remote(*words, "-o", output, status=status)
        assert result.stdout == direct.stdout
        note = "" if output == "json" else "note: bastion runs this command\n"
        assert result.stderr == note + direct.stderr


@pytest.mark.slow
def test_dry_run_changes_nothing(remote, machine):
    before = {path: path.read_bytes() for path in machine.data.rglob("*") if path.is_file()}
    result = remote("users", "delete", "demo", "--dry-run")
    assert "nothing was changed" in result.stderr
    assert before == {path: path.read_bytes() for path in machine.data.rglob("*") if path.is_file()}
    assert not [*machine.home.rglob("*.db")]


@pytest.mark.slow
def test_other_version_is_refused(remote, machine):
    (machine.programs / "dbctl").unlink()
    machine.set_path("/usr/bin:/bin")
    machine.programs = machine.home / ".local/bin"
    machine.programs.mkdir(parents=True)
    machine.install('[ "$*" != --version ] || { echo dbctl 9.9; exit; }')
    error = read_error(remote("users", "delete", "demo", "--yes", "-o", "json", status=6))
    assert (error["code"], "9.9" in error["message"]) == ("route-dbctl-version", True)
    command = error["hint"].rpartition(f"{__version__}: ")[2]
    assert subprocess.check_output(["sh", "-c", command]) == b"dbctl 9.9\n"


@pytest.mark.slow
def test_machine_without_dbctl_refuses_changes(remote, machine):
    machine.install("exit 127")
    before = machine.path.read_bytes()
    error = read_error(remote("users", "delete", "demo", "--yes", "-o", "json", status=6))
    assert error["code"] == "route-dbctl-missing"
    result = remote("users", "delete", "demo", "--dry-run")
    assert "Planned" in result.stderr
    assert "has no dbctl" in result.stderr
    remote("users", "list")
    remote("audit", "list", environment={"DBCTL_STATE": str(machine.home)})
    assert machine.path.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "need"),
    [
        (["migrate", "up"], "the folder of migrations"),
        (["users", "import", "users.csv"], "the file users.csv"),
        (["settings", "apply", "settings.json"], "the file settings.json"),
        (["data", "import", "users", "rows.csv"], "the file rows.csv"),
        (["users", "set-password", "demo", "--password-file", "secret"], "the file secret"),
        (["sessions", "cleanup"], "the hooks of cleanup"),
    ],
)
def test_what_needs_this_machine_is_refused_at_once(remote, machine, tmp_path, words, need):
    with (tmp_path / "dbctl.toml").open("a") as file:
        file.write('[apps.arcade.hooks]\ncleanup.before = ["true"]\n')
    error = read_error(remote(*words, "--yes", "-o", "json", status=6))
    assert error["code"] == "route-local-need"
    assert need in error["message"]
    assert "Accepted publickey" not in machine.host.log


@pytest.mark.slow
def test_files_come_by_standard_input(remote, machine):
    remote("settings", "apply", "-", text='{"app.siteName": "By input"}')
    assert machine.read(SITE_NAME) == [("By input",)]


@pytest.mark.slow
def test_profile_and_path_of_the_login(remote, machine, tmp_path):
    shutil.copytree(machine.data, machine.home / "data")
    built_in = (ROOT / "dbctl/profiles/builtin/flashpoint-web.toml").read_text()
    (tmp_path / "own.toml").write_text(built_in.replace('name = "flashpoint-web"', 'name = "own"', 1))
    (tmp_path / "dbctl.toml").write_text(
        '[apps.arcade]\nprofile = "own.toml"\nprotected = true\nvia = "ssh:bastion"\n'
        '[apps.arcade.databases]\nuser = "data/backend/user.db"\nflashpoint = "~/data/Data/flashpoint.sqlite"\n'
    )
    remote("users", "delete", "demo", "--yes", status=6)
    remote("users", "delete", "demo", "--confirm", "arcade")
    assert ("demo",) in machine.read(LOGINS)
    machine.path = machine.home / "data/backend/user.db"
    assert ("demo",) not in machine.read(LOGINS)


@pytest.fixture
def locked(machine):
    """Hold the lock of the database, so that a command waits in its transaction, until the returned function is called."""
    with closing(sqlite3.connect(machine.path, isolation_level=None)) as connection:
        connection.execute("begin immediate")
        yield connection
    assert ("demo",) in machine.read(LOGINS)


def find_remote(machine):
    """Return the processes of dbctl on the machine that have the database open."""
    processes = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"dbctl\0--app" in (process / "cmdline").read_bytes():
                opened = [file.readlink() for file in (process / "fd").iterdir()]
                processes |= {process.name} if machine.path in opened else set()
    return processes


DELETE = "users", "delete", "demo", "--yes", "--timeout", "60"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_the_command_there(start_dbctl, machine, runtime, locked, number):
    process = start_dbctl(*DELETE)
    wait_until(lambda: find_remote(machine))
    process.send_signal(number)
    assert process.wait(SECONDS) == 128 + number
    assert not find_remote(machine)
    wait_until_empty(machine.temporary)
    wait_until_empty(runtime)


@pytest.mark.slow
@pytest.mark.parametrize("via", ["ssh:bastion ssh:inner"], indirect=True)
def test_killed_dbctl_ends_the_command_there(start_dbctl, machine, runtime, locked):
    process = start_dbctl(*DELETE)
    wait_until(lambda: find_remote(machine))
    process.kill()
    wait_until(lambda: not find_remote(machine))
    wait_until_empty(machine.temporary)
    wait_until_empty(runtime)
    wait_until(lambda: not find_ssh(runtime))


def end_connection(machine, runtime):
    """End the server's process of each connection, and not the commands, which learn of it by the end of their input."""
    for process in machine.host.list_descendants():
        with suppress(OSError):
            if Path(f"/proc/{process}/comm").read_text().startswith("sshd"):
                os.kill(process, signal.SIGKILL)


def kill_ssh(_machine, runtime):
    for process in find_ssh(runtime):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@pytest.mark.slow
def test_lost_connection_of_a_dry_run_is_no_doubt(start, machine, runtime):
    with closing(sqlite3.connect(machine.path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = delete")
        connection.execute("begin exclusive")
        connection.execute("update users set email = email")  # a file without a journal is read without locks
        wait = start(*DELETE, "--dry-run")
        wait_until(lambda: find_remote(machine))
        kill_ssh(machine, runtime)
        status, error, _ = wait()
    assert (status, error["code"]) == (10, "route-lost"), error
    wait_until_empty(machine.temporary)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["dbctl", "ssh"])
def test_random_kills_leave_the_old_or_the_new_state(start_dbctl, machine, runtime, victim):
    timer = KillTimer(create_rng(f"forward {victim}"), 1.5)
    for number in range(choose_count(2, 40)):
        old = machine.read(SITE_NAME)
        process = start_dbctl("settings", "set", "app.siteName", f"Name {number}")
        timer.send_signal(process, 0 if victim == "ssh" else signal.SIGKILL)
        if victim == "ssh":
            kill_ssh(machine, runtime)
        process.wait(SECONDS)
        wait_until_empty(machine.temporary)
        wait_until_empty(runtime)
        assert machine.read(SITE_NAME) in (old, [(f"Name {number}",)])


@pytest.mark.slow
@pytest.mark.parametrize("lose", [end_connection, kill_ssh])
def test_lost_connection_ends_the_command_there(start, machine, runtime, locked, lose):
    wait = start(*DELETE)
    wait_until(lambda: find_remote(machine))
    lose(machine, runtime)
    status, error, _ = wait()
    assert (status, error["code"]) == (1, "commit-in-doubt"), error
    assert "the connection to bastion was lost" in error["message"]
    wait_until(lambda: not find_remote(machine))
    wait_until_empty(machine.temporary)


@pytest.mark.slow
def test_crash_of_the_machine_leaves_the_old_state(start, remote, machine):
    with closing(sqlite3.connect(machine.path, isolation_level=None)) as connection:
        connection.execute("begin immediate")
        wait = start(*DELETE)
        wait_until(lambda: find_remote(machine))
        machine.host.kill_connections()
        assert wait()[1]["code"] == "commit-in-doubt"
    assert ("demo",) in machine.read(LOGINS)
    (folder,) = machine.temporary.iterdir()
    watcher = Path("/proc", (folder / "watcher").read_text().strip())
    wait_until(lambda: not watcher.exists())
    remote(*DELETE)  # it deletes the folder that the crash left
    assert ("demo",) not in machine.read(LOGINS)


@pytest.mark.slow
def test_secrets_are_in_no_argument(start_dbctl, machine, tmp_path, locked):
    (tmp_path / "pepper").write_text("m4rked")
    text = (tmp_path / "dbctl.toml").read_text()
    (tmp_path / "dbctl.toml").write_text(text.replace("via =", 'pepper_file = "pepper"\nvia ='))
    process = start_dbctl(*DELETE, environment={"PASSWORD": "m4rked"})
    wait_until(lambda: find_remote(machine))
    (folder,) = machine.temporary.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir() if path.name != "pid"} == {0o600}
    assert (folder / "pepper").read_text() == "m4rked\n"
    assert "backups" not in (folder / "dbctl.toml").read_text()
    for arguments in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            assert b"m4rked" not in arguments.read_bytes()
    process.terminate()
    process.wait(SECONDS)
    wait_until_empty(machine.temporary)


@pytest.mark.slow
def test_terminal_is_that_of_the_command(dbctl, machine, tmp_path):
    before = machine.read("select password_hash from users where id = 3")
    environment = {**os.environ, "DBCTL_STATE": "off", "XDG_RUNTIME_DIR": str(dbctl.runtime), "TERM": "dumb"}
    words = [*dbctl.program, "users", "set-password", "demo"]
    with pexpect.spawn(words[0], words[1:], env=environment, cwd=str(tmp_path), timeout=SECONDS) as terminal:
        for question in ("assword", "gain|epeat"):
            terminal.expect(question)
            terminal.waitnoecho()
            terminal.sendline("~.long enough 4 you")
        terminal.expect(pexpect.EOF)
        assert b"long enough" not in terminal.before
        assert b"onnection" not in terminal.before
    assert terminal.exitstatus == 0, terminal.before
    assert machine.read("select password_hash from users where id = 3") != before
    with pexpect.spawn(
        dbctl.program[0],
        [*dbctl.program[1:], "users", "delete", "demo"],
        env=environment,
        cwd=str(tmp_path),
        timeout=SECONDS,
    ) as terminal:
        terminal.expect("yes or no")
        terminal.sendcontrol("c")
        terminal.expect(pexpect.EOF)
    assert terminal.exitstatus == 130
    assert ("demo",) in machine.read(LOGINS)
    wait_until_empty(machine.temporary)


def test_search_of_a_copy_names_no_index_to_build(remote):
    remote("search", "index", "build", "games")
    search = json.loads(remote("search", "games", "dusty", "-o", "json").stdout)
    assert [text for text in search["warnings"] if "index" in text] == []
    (index,) = json.loads(remote("search", "index", "status", "-o", "json").stdout)["data"]["items"]
    assert (index["state"], "copy of another machine" in index["reason"]) == ("missing", True)


@pytest.mark.slow
def test_folder_of_lancedb_is_changed_there(remote, machine, tmp_path):
    lancedb = pytest.importorskip("lancedb")
    folder = machine.data / "vectors"
    table = lancedb.connect(folder).create_table("items", [{"id": 0, "vector": [1.0, 0.0]}])
    table.add([{"id": 1, "vector": [0.0, 1.0]}])  # a second file of rows, which optimize joins with the first
    version = table.version
    (tmp_path / "vectors.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "vectors"\ntitle = "Vectors"\n[databases.main]\nengines = ["lancedb"]\n'
    )
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.search]\nprofile = "vectors.toml"\nvia = "ssh:bastion"\ndatabases = "{folder}"\n'
    )
    remote("maintain", "optimize", "--yes")
    assert lancedb.connect(folder).open_table("items").version > version
