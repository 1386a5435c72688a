"""Completion files: current, and correct in real shells, with the names of a live deployment."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.cli._completion import DEADLINE, decode_word, quote_rest
from dbctl.cli.completions import FILES, Shell
from dbctl.services.completion import KINDS, LIMIT
from tests.cli.shells import BIN, FOLDER, open_shell
from tests.in_process import run_command
from tests.services.flashpoint_app import copy_deployment
from tests.test_imports import HEAVY
from tools import reference
from tools.completion import generate
from tools.completion.tree import CHOICES, LIVE

pytestmark = pytest.mark.slow  # each test starts shells or interpreters
DBCTL = BIN / "dbctl"
CONFIGURATION = """\
[apps.arcade]
profile = "flashpoint-web"
[apps.arcade.databases]
user = "backend/user.db"
flashpoint = "Data/flashpoint.sqlite"
[apps.arcade.backup]
repository = "backups"
[apps.other]
profile = "flashpoint-web"
[apps.other.databases]
user = "missing/user.db"
"""
#: Logins that begin with Q and a letter, which shells have to quote, and which no terminal may receive as they are.
HOSTILE = {
    "Qa": "Qa b",
    "Qb": "Qb'q",
    "Qc": 'Qc"q',
    "Qd": "Qd$HOME",
    "Qe": "Qe\nline",
    "Qf": "Qf:x:y",
    "Qg": "Qg`id`",
    "Qh": "Qh!1",
    "Qi": "Qiü✓",
    "Qj": "Qj\\b",
    "Qk": "Qk*?[z]",
    "Ql": "Ql;rm -rf x",
    "Qm": "Qm#x=1",
    "Qn": "Qn@example.org",
    "Qo": "Qo{a,b}&<c>|(d)",
    "-- -Q": "-Qdash",
    "\\~Q": "~Qhome",
}
ESCAPES = ["Qy\x1b]0;title\x07", "Qz\u202elanoitceridib", "Qx\x9b31m"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A deployment with hostile logins, and one backup."""
    place = tmp_path_factory.mktemp("deployment")
    copy_deployment(place)
    (place / "dbctl.toml").write_text(CONFIGURATION)
    with closing(sqlite3.connect(place / "backend/user.db")) as connection:
        for number, login in enumerate([*HOSTILE.values(), *ESCAPES]):
            connection.execute(
                "insert into users (username, email, password_hash, role_id) values (?, ?, 'x', 3)",
                (login, f"{number}@example.org"),
            )
        connection.commit()
    words = ["backup", "create", "--app", "arcade", "-q"]
    assert run_command(words, environment={"HOME": str(place)}, cwd=place).returncode == 0
    (place / "a file.toml").touch()
    return place


@pytest.fixture(scope="module", params=list(Shell))
def shell(request, folder):
    with open_shell(request.param, folder, DBCTL_APP="arcade") as session:
        yield session


@pytest.mark.needs_extension
@pytest.mark.parametrize("shell", list(Shell))
def test_bundled_completion_file_is_current(shell, answer):
    answer("search", "index", "status", status=None)  # a command may have used a nested group before
    assert (FOLDER / FILES[shell]).read_text() == generate.generate(shell)


@pytest.mark.needs_extension
def test_bundled_help_is_current():
    assert generate.HELP.read_text() == generate.root_help()
    assert generate.NAMES.read_text() == generate.list_extensions()


@pytest.mark.parametrize("placeholder", CHOICES)
def test_each_placeholder_with_choices_belongs_to_an_argument(placeholder):
    assert any(placeholder in text for _, text in reference.command_helps())


def test_each_kind_of_values_belongs_to_a_slot():
    kinds = {kind for _path, _slot, kinds in LIVE for kind in kinds.split(",") if kind}
    assert kinds == KINDS


LINES = [
    ("dbctl comp", "dbctl completions "),
    ("dbctl -q completions sh", "dbctl -q completions show "),
    ("dbctl completions show fi", "dbctl completions show fish "),
    ("dbctl completions show -- z", "dbctl completions show -- zsh "),
    ("dbctl users list -o cs", "dbctl users list -o csv "),
    ("dbctl users list --output=cs", "dbctl users list --output=csv "),
    ("dbctl --exc", "dbctl --excel-safe "),
    ("true; dbctl comp", "true; dbctl completions "),
    ("dbctl --config a", "dbctl --config a\\ file.toml "),
    ("dbctl --timeout 1 users sh", "dbctl --timeout 1 users show "),
    ("dbctl search index st", "dbctl search index status "),
    ("dbctl man show back", "dbctl man show backup "),
    ("dbctl help exit", "dbctl help exit-codes "),
    # live values
    ("dbctl users show morg", "dbctl users show morgan "),
    ("dbctl users show demo morg", "dbctl users show demo morgan "),
    ("dbctl users set-role demo mod", "dbctl users set-role demo moderator "),
    ("dbctl users list --role mod", "dbctl users list --role moderator "),
    ("dbctl users list --role=mod", "dbctl users list --role=moderator "),
    ("dbctl users create --set em", "dbctl users create --set email="),
    ("dbctl roles grant user games.d", "dbctl roles grant user games.download "),
    ("dbctl settings get app.siteN", "dbctl settings get app.siteName "),
    ("dbctl settings list --category fea", "dbctl settings list --category features "),
    ("dbctl backup show lat", "dbctl backup show latest "),
    ("dbctl data rows login_a", "dbctl data rows login_attempts "),
    ("dbctl --db flashpoint data rows game_t", "dbctl --db flashpoint data rows game_tags_tag "),
    ("dbctl data rows users --sort pass", "dbctl data rows users --sort password_hash "),
    ("dbctl data set users 3 is_act", "dbctl data set users 3 is_active="),
    ("dbctl stats run most-p", "dbctl stats run most-played "),
    ("dbctl sessions cleanup --rule ab", "dbctl sessions cleanup --rule abandoned-plays "),
    ("dbctl search pl", "dbctl search playlists "),
    ("dbctl migrate up --to 001_user", "dbctl migrate up --to 001_user-schema "),
    ("dbctl --app arc", "dbctl --app arcade "),
    ("dbctl --app=arc", "dbctl --app=arcade "),
    ("dbctl --db us", "dbctl --db user "),
    pytest.param("dbctl demo chat", "dbctl demo chat-lancedb ", marks=pytest.mark.needs_extension("demo")),
]


@pytest.mark.parametrize(("keys", "line"), LINES)
def test_tab_completes_line(shell, keys, line):
    assert shell.complete(keys) == line


def test_tab_completes_id_of_backup(shell, folder):
    (backup,) = (path.name for path in (folder / "backups/arcade").iterdir() if path.name[0] == "2")
    assert shell.complete("dbctl restore preview 2") == f"dbctl restore preview {backup} "


@pytest.mark.parametrize("keys", HOSTILE)
def test_tab_quotes_name(shell, keys):
    assert shell.parse(shell.complete(f"dbctl users show {keys}"))[-1] == HOSTILE[keys]


@pytest.mark.parametrize(
    ("keys", "login"),
    [
        ('"Qa', "Qa b"), ("'Qa", "Qa b"), ("Qa\\ ", "Qa b"), ("'Qb", "Qb'q"), ('"Qc', 'Qc"q'), ('"Qd', "Qd$HOME"), ("'Qe", "Qe\nline"),
        ("Qf:", "Qf:x:y"), ("Qf:x:", "Qf:x:y"), ('"Qf:', "Qf:x:y"), ("Qm\\#x=", "Qm#x=1"), ("Qn@", "Qn@example.org"), ("'Qj", "Qj\\b"),
    ],
)  # fmt: skip
def test_tab_continues_quoted_word(shell, keys, login):
    assert shell.parse(shell.complete(f"dbctl users show {keys}"))[-1] == login


def test_names_are_listed_without_control_characters(shell):
    shell.output = ""
    shell.complete("dbctl users show Q", tabs=3)
    assert "Qa" in shell.output
    for text in ("\x1b]0;title", "\u202e", "\x9b"):
        assert text not in shell.output


def test_word_before_the_group_selects_the_database(shell):
    # the other app has no database
    line = "dbctl --app other users show morg"
    assert shell.complete(line) == line


def test_configuration_of_the_line_is_read(shell, folder, tmp_path):
    configuration = tmp_path / "it's.toml"
    configuration.write_text(CONFIGURATION.replace('"b', f'"{folder}/b').replace('"D', f'"{folder}/D'))
    path = f'"{configuration}"'
    line = shell.complete(f"cd /; dbctl --config {path} --app arcade users show morg")
    assert line == f"cd /; dbctl --config {path} --app arcade users show morgan "
    line = f"cd /; dbctl --profile flashpoint-web --url user={folder}/backend/user.db users show morg"
    assert shell.complete(line) == f"{line}an "


# The request of the shells --------------------------------------------------------------------------------------


#: The request with a later deadline, because a busy machine may not find names in time.
PATIENT_REQUEST = (
    "import sys; from dbctl.__main__ import complete; from dbctl.cli import _completion;"
    "_completion.DEADLINE = 60; complete(sys.argv[1:])"
)


def request(*words, cwd):
    """Return the names of a request, and its seconds."""
    return request_once(*words, cwd=cwd, program=(sys.executable, "-c", PATIENT_REQUEST))


def request_once(*words, cwd, program=(DBCTL, "__complete")):
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "DBCTL_APP": "arcade"}
    begin = time.monotonic()
    process = subprocess.run(
        [*program, "zsh", "argument:logins", "", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")
    return process.stdout.split("\0")[:-1], time.monotonic() - begin


def change(folder, statement):
    with closing(sqlite3.connect(folder / "backend/user.db")) as connection:
        connection.execute(statement)
        connection.commit()


@pytest.fixture
def copy(folder, tmp_path):
    with closing(sqlite3.connect(folder / "backend/user.db")) as source:
        (tmp_path / "backend").mkdir()
        with closing(sqlite3.connect(tmp_path / "backend/user.db")) as target:
            source.backup(target)
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION)
    return tmp_path


def test_names_of_many_users_include_the_last(copy):
    change(copy, "delete from users where id > 1")
    change(
        copy,
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000) insert into users"
        " (username, email, password_hash, role_id) select printf('user%05d', i), i || '@e', 'x', 3 from n",
    )
    names, _ = request("users", "show", "user", cwd=copy)
    assert (names[:2], names[-1], len(names)) == (["user00001", "user00002"], "user02000", LIMIT)
    assert request("users", "show", "user0123", cwd=copy)[0] == [f"user0123{digit}" for digit in range(10)]


def test_name_of_other_case_is_returned_only_without_exact_names(copy):
    change(copy, "update users set username = 'Morgana' where username = 'demo'")
    assert request("users", "show", "mor", cwd=copy)[0] == ["morgan"]
    assert request("users", "show", "MOR", cwd=copy)[0] == ["Morgana", "morgan"]


def corrupt(folder):
    (folder / "backend/user.db").write_bytes(b"SQLite format 3\0" + os.urandom(8192))


def remove(folder):
    (folder / "backend/user.db").unlink()


def break_configuration(folder):
    (folder / "dbctl.toml").write_text("[apps.arcade\n")


def remove_configuration(folder):
    (folder / "dbctl.toml").unlink()


def wait_for_server(folder):
    listener = socket.create_server(("127.0.0.1", 0))  # accepts connections, and never answers
    address = f"postgresql://app@127.0.0.1:{listener.getsockname()[1]}/app"
    (folder / "dbctl.toml").write_text(CONFIGURATION.replace("backend/user.db", address))
    return listener


@pytest.mark.parametrize(
    "damage", [corrupt, remove, break_configuration, remove_configuration, wait_for_server]
)
def test_unusable_database_ends_without_output(copy, damage):
    resource = damage(copy)
    files = sorted(copy.rglob("*"))
    names, seconds = request_once("users", "show", "mor", cwd=copy)
    assert names == []
    assert seconds < DEADLINE + 30  # a process that waits for the server takes longer by minutes
    assert sorted(copy.rglob("*")) == files
    if resource:
        resource.close()


def test_locked_database_is_not_waited_for(copy):
    with closing(sqlite3.connect(copy / "backend/user.db")) as connection:
        connection.execute("pragma journal_mode = delete")
        connection.execute("begin exclusive")
        names, seconds = request_once("users", "show", "mor", cwd=copy)
    assert names in ([], ["morgan"])
    assert seconds < DEADLINE + 30


def test_request_starts_no_program_of_the_configuration(copy):
    script = copy / "secret"
    script.write_text(f"#!/bin/sh\ntouch {copy}/ran\necho backend/user.db\n")
    script.chmod(0o755)
    secret = '[secrets.DATABASE]\ncommand = ["./secret"]\n'
    (copy / "dbctl.toml").write_text(secret + CONFIGURATION.replace("backend/user.db", "${DATABASE}"))
    assert request("users", "show", "mor", cwd=copy)[0] == []
    assert not (copy / "ran").exists()
    words = ["users", "list", "--app", "arcade"]  # the configuration is valid
    assert run_command(words, environment={"HOME": str(copy)}, cwd=copy).returncode == 0


@pytest.mark.parametrize("words", [[], ["bash"], ["bash", "argument:logins"], ["bash", "x:y", "", "users"]])
def test_malformed_request_ends_without_output(copy, words):
    process = subprocess.run([DBCTL, "__complete", *words], cwd=copy, capture_output=True, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"")


def test_request_leaves_no_trace(copy):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert request("users", "show", "mor", cwd=copy)[0] == ["morgan"]
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_request_loads_no_parser(copy):
    code = """
import sys
from dbctl import startup
from dbctl.__main__ import complete
startup.defer_imports(of_typer=False)
from dbctl.cli import _completion
_completion.DEADLINE = 60
complete(["zsh", "argument:logins", "", "users", "show", "mor"])
names = [name for name, module in sys.modules.items() if getattr(module, "__spec__", None)]
open("modules", "w").write(" ".join(names))
"""
    # of a file: with -c, Python 3.13 itself loads one of these modules
    (copy / "request.py").write_text(code)
    environment = os.environ | {"DBCTL_APP": "arcade"}
    process = subprocess.run(
        [sys.executable, "request.py"], cwd=copy, env=environment, capture_output=True, text=True, check=True
    )
    assert process.stdout == "morgan\0"
    modules = (copy / "modules").read_text().split()
    assert {"typer", *HEAVY}.intersection(modules) == set()


@given(st.text(st.characters(exclude_characters="\0"), max_size=12), st.sampled_from(["", "'", '"', "$'"]))
def test_quoted_rest_is_decoded_to_its_text(text, quote):
    written = quote_rest(text, quote)
    assert written.isprintable()
    assert decode_word(f"{quote}{written}") == (text, quote)


def test_bash_reads_quoted_names_as_dbctl_does():
    texts = [*HOSTILE.values(), *ESCAPES, "\udcff\x7f\t", "\U0001f600", "a\\'b\"c$d`e!f"]
    words = [
        f"{quote}{quote_rest(text, quote)}{quote[-1:]}" for text in texts for quote in ("", "'", '"', "$'")
    ]
    script = "printf '%s\\0' " + " ".join(words)
    output = subprocess.run(
        ["bash", "-c", script.encode("utf-8", "surrogateescape")],
        env={"LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=True,
    ).stdout
    assert output.decode("utf-8", "surrogateescape").split("\0")[:-1] == [t for t in texts for _ in range(4)]


# Installation ----------------------------------------------------------------------------------------------------


def install(shell, home, *more):
    return subprocess.run(
        [sys.executable, "-m", "dbctl", "completions", "install", *shell, "-o", "json", *more],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "SHELL": "/bin/bash",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        },
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )


PLACES = {
    "bash": ".local/share/bash-completion/completions/dbctl",
    "zsh": ".local/share/zsh/site-functions/_dbctl",
    "fish": ".config/fish/completions/dbctl.fish",
}


@pytest.mark.parametrize("shell", list(Shell))
def test_install_writes_completion_file_once(shell, tmp_path):
    first, second = (json.loads(install([shell], tmp_path).stdout)["data"] for _ in range(2))
    place = tmp_path / PLACES[shell]
    assert (first["path"], first["changed"], second["changed"]) == (str(place), True, False)
    assert place.read_text() == (FOLDER / FILES[shell]).read_text()
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_install_detects_shell_from_environment(tmp_path):
    assert json.loads(install([], tmp_path).stdout)["data"]["shell"] == "bash"


def test_install_does_not_replace_foreign_file(tmp_path):
    place = tmp_path / PLACES["bash"]
    place.parent.mkdir(parents=True)
    place.write_text("# mine\n")
    process = install(["bash"], tmp_path)
    assert (process.returncode, json.loads(process.stdout)["error"]["code"]) == (6, "file-exists")
    assert place.read_text() == "# mine\n"
