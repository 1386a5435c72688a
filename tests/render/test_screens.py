"""Commands on terminals of several widths and kinds, and in pipes."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pexpect
import pytest

from dbctl.render.tables import cell_width
from tests.in_process import run_command
from tests.render import screens

pytestmark = [
    pytest.mark.slow,  # each command runs on several terminals
    pytest.mark.needs_extension("demo"),  # the sample
]

ROOT = Path(__file__).parents[2]
#: Commands with tables, cards, names and values, findings, plans, remarks, SQL.
KINDS = ["users list", "backup show latest", "doctor", "users delete demo --dry-run", "search games wizard", "roles matrix"]  # fmt: skip


@pytest.fixture(scope="module")
def folder():
    with screens.sample() as path:
        yield path


@pytest.mark.parametrize("command", screens.COMMANDS)
def test_screen_is_the_stored_one(folder, command):
    stored = screens.path_of(command).read_text(encoding="utf-8")
    assert screens.describe(folder, command) == stored, "write them with: make screens"


def test_no_other_screen_is_stored():
    assert {*screens.STORED.iterdir()} == {screens.path_of(command) for command in screens.COMMANDS}


@pytest.mark.parametrize("command", screens.COMMANDS)
@pytest.mark.parametrize("width", screens.WIDTHS)
def test_no_word_is_broken(folder, command, width):
    typed = screens.COMMANDS[command]
    complete = set(screens.show(folder, command, 1000, typed).text.split())
    for line in screens.show(folder, command, width, typed).raw.splitlines():
        for word in re.sub(r"\x1b\[[\d;]*m", "", line).split():
            stem = word.removesuffix("…")
            assert word in complete or (stem != word and any(other.startswith(stem) for other in complete)), (
                word
            )


@pytest.mark.parametrize("command", screens.COMMANDS)
def test_text_without_color_is_the_same(folder, command):
    typed = screens.COMMANDS[command]
    plain = screens.show(folder, command, 80, typed, NO_COLOR="1")
    assert plain.text == screens.show(folder, command, 80, typed).text
    assert "\x1b" not in plain.raw


def test_each_role_is_on_a_screen():
    stored = "".join(path.read_text(encoding="utf-8") for path in screens.STORED.iterdir())
    assert {role for role in screens.STYLES if f"{role} " in stored} == {*screens.STYLES}


@pytest.mark.parametrize("command", KINDS)
@pytest.mark.parametrize("width", [1, 20, 40, 1000])
def test_any_width_is_possible(folder, command, width):
    shown = screens.show(folder, command, width)
    assert shown.status == 0
    for line in re.sub(r"\x1b\[[\d;]*m", "", shown.raw).splitlines():
        words = line.split()
        is_command = "dbctl" in line
        assert cell_width(line) <= max(width, 20) or len(words) <= 1 or is_command, line


@pytest.mark.parametrize("command", KINDS)
def test_dumb_terminal_shows_what_a_pipe_gets(folder, command):
    with screens.stop_clock():
        piped = run_command(shlex.split(command), environment=screens.ENVIRONMENT, cwd=folder).stdout.decode()
    shown = screens.show(folder, command, 80, TERM="dumb").raw
    assert "\x1b" not in shown
    assert {*screens.hide_volatile(piped, folder).splitlines()} <= {*shown.splitlines()}


@pytest.mark.parametrize("command", ["roles matrix", "users list", "data query 'select 1 as a'"])
def test_forced_color_in_pipe_changes_no_text(folder, command):
    words = shlex.split(command)
    plain, colored, forced = (
        run_command([*words, *options], environment=screens.ENVIRONMENT | more, cwd=folder).stdout.decode()
        for options, more in (
            ([], {}),
            (["--color", "always"], {"NO_COLOR": "1"}),
            ([], {"CLICOLOR_FORCE": "1"}),
        )
    )
    assert "\x1b" not in plain
    assert colored == forced != plain
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == plain


@pytest.mark.parametrize(
    ("options", "environment", "has_color"),
    [
        ("", {}, True),
        ("", {"CLICOLOR": "0"}, False),
        ("", {"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, False),
        ("--no-color", {"CLICOLOR_FORCE": "1"}, False),
        ("--color never", {}, False),
        ("--color=always", {"TERM": "dumb"}, True),
        ("--no-color --color auto", {}, True),
    ],
)
def test_options_and_environment_decide_about_color(folder, options, environment, has_color):
    for command in ("roles matrix", "users show no-such-user", "--unknown", "roles --help", "help doctor"):
        shown = screens.show(folder, f"{options} {command}", 80, **environment)
        assert ("\x1b[" in shown.raw) is has_color, command


@pytest.mark.parametrize(
    "words", ["--help", "users create --help", "users", "help exit-codes", "help config"]
)
def test_help_has_colors_only_on_a_terminal(folder, words):
    shown = screens.show(folder, words, 80)
    plain = screens.show(folder, words, 80, NO_COLOR="1")
    piped = run_command(words.split(), environment=screens.ENVIRONMENT, cwd=folder)
    assert {*shown.colors} & {"heading", "command"}
    assert not plain.colors
    assert shown.text == plain.text
    assert "\x1b" not in (piped.stdout + piped.stderr).decode()
    assert re.sub(r"\x1b\[[\d;]*m", "", shown.raw).split() == (piped.stdout or piped.stderr).decode().split()


def test_help_in_json_has_no_colors(folder):
    shown = screens.show(folder, "help doctor -o json", 80, CLICOLOR_FORCE="1")
    assert "\x1b" not in shown.raw


def test_root_help_of_the_program_has_colors_on_a_terminal(folder):
    environment = screens.ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    for more, has_color in (({}, True), ({"NO_COLOR": "1"}, False)):
        shown = pexpect.run(f"{sys.executable} -m dbctl --help", env=environment | more, cwd=folder)
        assert (b"\x1b[1mSet up:" in shown) is has_color
        assert b"Set up:" in shown


def test_locale_without_signs_gets_words(folder):
    environment = screens.ENVIRONMENT | {"LC_ALL": "C", "COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    for words, expected in (
        (["roles", "matrix"], b"yes"),
        (["search", "games", "wizard"], b"..."),
        (["doctor"], b"!"),
    ):
        screen = pexpect.run(shlex.join([sys.executable, "-m", "dbctl", *words]), env=environment, cwd=folder)
        assert screen.isascii()
        assert expected in screen


# The pager -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pager(tmp_path):
    """Return a pager that stores what it gets, and the file."""
    return f"cat > {tmp_path}/page", tmp_path / "page"


def test_output_longer_than_screen_is_paged(folder, pager):
    command, file = pager
    shown = screens.show(folder, "settings list", 80, PAGER=command, LINES="10")
    assert "app.siteName" in file.read_text()
    assert "app.siteName" not in shown.raw
    assert "\x1b[" in file.read_text()


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        ("settings list", {"LINES": "100"}),
        ("settings list --no-pager", {}),
        ("settings list -o csv", {}),
        ("settings list", {"TERM": "dumb"}),
        ("settings list", {"DBCTL_PAGER": "cat"}),
        ("settings list", {"DBCTL_PAGER": ""}),
        ("users delete demo --dry-run --quiet -o json", {}),
    ],
)
def test_other_output_is_not_paged(folder, pager, words, environment):
    command, file = pager
    screens.show(folder, words, 80, **{"PAGER": command, "LINES": "10"} | environment)
    assert not file.exists()


@pytest.mark.parametrize("command", ["true", "false", "head -n 1", "kill -9 $$"])
def test_closed_pager_does_not_change_the_exit_code(folder, command):
    expected = screens.show(folder, "status --check", 80).status
    assert expected != 0
    shown = screens.show(folder, "status --check", 80, PAGER=command, LINES="2")
    assert shown.status == expected
    assert "Traceback" not in shown.text


def test_missing_pager_is_replaced_by_the_terminal(folder):
    shown = screens.show(folder, "settings list", 80, PAGER="/nonexistent/pager", LINES="10")
    assert "app.siteName" in shown.text
    assert shown.status == 0


def test_remark_follows_the_page(folder):
    shown = screens.show(
        folder, "sessions list --limit 30", 80, PAGER="sleep 0.2; echo paged; cat > /dev/null", LINES="10"
    )
    assert shown.text.index("paged") < shown.text.index("shows more")


def test_no_database_is_open_while_the_user_reads(folder):
    pager = f"ls -l /proc/$PPID/fd > {folder}/files; cat > /dev/null"
    screens.show(folder, "users list --limit 10", 80, PAGER=pager, LINES="5")
    assert "user.db" not in (folder / "files").read_text()


# Users whose login is their e-mail address ---------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_address_that_is_the_login_is_shown_once_and_complete(tmp_path, width):
    with screens.stop_clock():
        database = screens.create_sample(tmp_path, "promptvault")["databases"]["main"]
    words = f"--profile promptvault --url main={database} users list --limit 5 --quiet"
    logins = screens.show(tmp_path, f"{words} -o csv --columns login,email", width).text.split()[1:]
    shown = screens.show(tmp_path, words, width).text
    assert "email" not in shown.splitlines()[0].split()
    assert len(logins) == 5
    for pair in logins:
        login, email = pair.split(",")
        assert login == email
        assert shown.split().count(login) == 1
