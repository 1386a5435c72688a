"""What a script may rely on, whatever the command: options, forms, exit statuses, pipes, signals, questions."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

SAMPLE = Path(__file__).with_name("sample.py")
ROOT = Path(__file__).parents[2]
CLEAN = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}


def command(*words):
    return [sys.executable, str(SAMPLE), *map(str, words)]


def dbctl(*words, cwd=None, stdin="", **environment):
    done = subprocess.run(
        command(*words),
        cwd=cwd,
        env=CLEAN | environment,
        input=stdin.encode(errors="surrogateescape"),
        capture_output=True,
        check=False,
    )
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()  # line ends as they are
    return done


def data(*words, **more):
    done = dbctl("-o", "json", *words, **more)
    return json.loads(done.stdout)


def error(done):
    return json.loads(done.stdout)["error"]


# Options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [("--app", "a", "sample", "said"), ("sample", "--app", "a", "said"), ("sample", "said", "--app", "a")],
)
def test_an_option_of_every_command_stands_before_between_and_after(words):
    assert data(*words)["data"]["app"] == "a"


def test_later_words_win_and_typed_words_beat_the_environment():
    assert data("--app", "a", "sample", "said", "--app", "b")["data"]["app"] == "b"
    assert data("--app", "a", "sample", "said", DBCTL_APP="env")["data"]["app"] == "a"
    assert data("sample", "said", "--app", "a", DBCTL_APP="env")["data"]["app"] == "a"
    assert data("sample", "said", DBCTL_APP="env")["data"]["app"] == "env"


def test_urls_add_up():
    assert data("--url", "a=1", "sample", "--url", "b=2", "said", "--url", "c")["data"]["url"] == [
        "a=1",
        "b=2",
        "c",
    ]


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon", ""])
def test_a_timeout_that_is_no_time_is_refused(seconds):
    done = dbctl("sample", "said", f"--timeout={seconds}")
    assert done.returncode == 2
    assert "--timeout" in done.stderr
    assert done.stderr.count("\n") == 2


def test_a_timeout_of_zero_is_a_time():
    assert data("sample", "said", "--timeout", "0")["data"]["timeout"] == 0


@pytest.mark.parametrize("limit", ["0", "-1", str(10**20), "1.5", "٣x", ""])
def test_a_limit_that_is_none_is_refused(limit):
    done = dbctl("sample", "list", f"--limit={limit}", "-o", "json")
    assert (done.returncode, error(done)["code"]) == (2, "usage")


@pytest.mark.parametrize("offset", ["-1", str(2**63)])
def test_an_offset_that_is_none_is_refused(offset):
    assert dbctl("sample", "list", f"--offset={offset}").returncode == 2


@pytest.mark.parametrize(
    ("sort", "meant"), [("a", "a"), ("-a", "-a"), ("a:desc", "-a"), ("a:asc", "a"), ("-a:desc", "a")]
)
def test_sort_takes_both_spellings_of_descending(sort, meant):
    assert data("sample", "list", "--limit=1", f"--sort={sort}")["data"]["items"][0]["sort"] == meant


@pytest.mark.parametrize("sort", ["a:down", "a:", "-", ":desc"])
def test_a_sort_that_names_nothing_is_refused(sort):
    done = dbctl("sample", "list", f"--sort={sort}", "-o", "json")
    assert (done.returncode, json.loads(done.stdout)["schema"]) == (2, "dbctl.sample.list/1")


@pytest.mark.parametrize(
    ("words", "near"),
    [(("sampel",), "sample"), (("sample", "lst"), "list"), (("sample", "list", "--limt", "1"), "--limit")],
)
def test_a_mistyped_word_is_answered_with_the_near_one(words, near):
    done = dbctl(*words)
    assert done.returncode == 2
    assert near in done.stderr
    assert not done.stdout


def test_help_of_a_command_hides_what_every_command_takes_and_says_where_it_is():
    shown = dbctl("sample", "list", "--help").stdout
    assert "--limit" in shown
    assert "--profile" not in shown
    assert "dbctl --help" in shown
    assert "--profile" in dbctl("--help").stdout


def test_no_words_get_the_help_on_standard_error():
    for words in ((), ("sample",)):
        done = dbctl(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Usage:" in done.stderr


def test_help_on_a_narrow_terminal_fits():
    assert max(map(len, dbctl("--help", COLUMNS="60").stdout.splitlines())) <= 60


def test_the_version_is_told_alone_and_beside_other_words():
    assert dbctl("--version").stdout == dbctl("-q", "--version").stdout
    assert dbctl("--version").stdout.startswith("dbctl ")


def imported(*words):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dbctl", *words],
        env=CLEAN,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_quick_questions_import_nothing_heavy(word):
    assert (
        imported(word) & {"typer", "msgspec", "rich", "enum", "re", "dbctl.errors.base", "dbctl.cli.main"}
        == set()
    )


def test_an_ordinary_command_imports_no_rich_no_tabulate_no_pydantic():
    loaded = imported("completions", "show", "bash")
    assert "typer" in loaded
    assert (
        loaded & {"rich", "tabulate", "pydantic", "click", "sqlite_utils", "csv", "getpass", "tomlkit"}
        == set()
    )


# Forms ---------------------------------------------------------------------------------------------------------


def test_json_is_one_object_on_success():
    told = data("sample", "list", "--limit", "2")
    assert {key: told[key] for key in ("schema", "ok", "exit_code", "error", "warnings")} == {
        "schema": "dbctl.sample.list/1",
        "ok": True,
        "exit_code": 0,
        "error": None,
        "warnings": ["a remark"],
    }
    assert {key: told["data"][key] for key in ("total", "limit", "offset", "has_more")} == {
        "total": 10**6,
        "limit": 2,
        "offset": 0,
        "has_more": True,
    }


@pytest.mark.parametrize(
    ("words", "code", "status", "schema"),
    [
        (("nope",), "usage", 2, "dbctl/1"),
        (("sample", "nope"), "usage", 2, "dbctl.sample/1"),
        (("sample", "list", "--nope"), "usage", 2, "dbctl.sample.list/1"),
        (("sample", "fault"), "usage", 2, "dbctl.sample.fault/1"),
        (("sample", "fault", "busy"), "busy", 11, "dbctl.sample.fault/1"),
        (("sample", "fault", "own"), "internal", 1, "dbctl.sample.fault/1"),
        (("sample", "fault", "deep"), "internal", 1, "dbctl.sample.fault/1"),
        (("sample", "fault", "memory"), "internal", 1, "dbctl.sample.fault/1"),
        (("sample", "wipe", "--step", "x"), "confirmation-missing", 6, "dbctl.sample.wipe/1"),
        (("sample",), "usage", 2, "dbctl.sample/1"),
    ],
)
@pytest.mark.parametrize("form", [("-o", "json"), ("-ojson",), ("--output=json",), ("-qo", "json")])
def test_json_is_one_object_on_failure(words, code, status, schema, form):
    done = dbctl(*form, *words)
    told = json.loads(done.stdout)
    assert (told["ok"], told["data"], told["exit_code"], done.returncode) == (False, None, status, status)
    assert (told["error"]["code"], told["schema"]) == (code, schema)
    assert done.stderr.startswith("dbctl: ")
    assert "Traceback" not in done.stderr


def test_the_form_may_come_from_the_environment_also_for_failures():
    assert json.loads(dbctl("nope", DBCTL_OUTPUT="json").stdout)["error"]["code"] == "usage"


def test_a_fault_shows_where_and_never_what():
    done = dbctl("sample", "fault", "own")
    assert (done.returncode, done.stdout) == (1, "")
    assert "KeyError" in done.stderr
    assert "hunter2" not in done.stderr
    assert done.stderr.count("\n") == 2
    for loud in ("-v", "-qv", "--verbose"):
        assert "Traceback" in dbctl(loud, "sample", "fault", "own").stderr


def test_a_word_that_only_looks_like_the_form_does_not_change_it():
    assert (
        json.loads(dbctl("-o", "json", "sample", "list", "--sort", "-joined_on", "--nope").stdout)["ok"]
        is False
    )


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "tsv", "markdown"])
def test_a_secret_is_shown_in_no_form(form):
    done = dbctl("sample", "secret", "-o", form)
    assert done.returncode == 1
    assert "hunter2" not in done.stdout + done.stderr


def test_an_unknown_column_is_refused_and_the_known_ones_are_named():
    done = dbctl("sample", "list", "--columns", "n,zip")
    assert done.returncode == 2
    assert "n, sort, text" in done.stderr


def test_columns_are_picked_in_the_order_that_was_asked_for():
    assert (
        dbctl("sample", "list", "--limit", "1", "--columns", "text,n", "-o", "csv").stdout == "text,n\nx,0\n"
    )


def test_what_spreadsheets_run_is_disarmed_and_counted(tmp_path):
    done = dbctl(
        "sample", "list", "--limit", "2", "--columns", "text", "-o", "csv", "--excel-safe", TEXT="=1+1"
    )
    assert done.stdout == "text\n'=1+1\n'=1+1\n"
    assert done.stderr == "", "cron mails whatever is said"
    words = ("sample", "list", "--limit", "2", "--columns", "text", "-o", "csv", "--excel-safe")
    assert "2 cells" in seen(*words, cwd=tmp_path, TEXT="=1+1")
    assert dbctl("sample", "list", "--excel-safe").returncode == 2


def test_remarks_are_for_a_person_at_a_terminal_since_cron_mails_whatever_is_said(tmp_path):
    assert dbctl("sample", "list", "--limit", "1").stderr == ""
    assert "note: a remark" in seen("sample", "list", "--limit", "1", cwd=tmp_path)
    assert "note: a remark" not in seen("sample", "list", "--limit", "1", "-q", cwd=tmp_path)


def test_a_narrow_locale_ends_nothing():
    narrow = {"PYTHONIOENCODING": "ascii", "TEXT": "é"}
    assert "\\xe9" in dbctl("sample", "list", "--limit", "1", **narrow).stdout
    assert "é" in dbctl("sample", "list", "--limit", "1", "-o", "csv", **narrow).stdout
    assert dbctl("--help", **narrow).returncode == 0
    assert dbctl("sample", "--help", **narrow).returncode == 0


# Streams -------------------------------------------------------------------------------------------------------


def shell(script, *words, **environment):
    line = " ".join(f"'{word}'" for word in command(*words))
    return subprocess.run(
        ["bash", "-c", script.replace("DBCTL", line)],
        env=CLEAN | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("form", ["table", "json", "csv", "jsonl", "tsv"])
def test_a_reader_that_goes_away_is_no_trouble(form):
    done = shell(
        "DBCTL | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}",
        "sample",
        "list",
        "--limit",
        "100000",
        "-o",
        form,
        "-q",
    )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        ("sample", "--help"),
        ("sample", "said"),
        ("sample", "list", "--limit", "90000", "-q"),
        ("-o", "json", "sample", "said"),
    ],
)
def test_a_full_disk_behind_standard_output_is_a_failure(words):
    done = shell("DBCTL >/dev/full", *words)
    assert done.returncode == 1
    assert "standard output: No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_trouble(closed):
    assert shell(f"DBCTL {closed}", "sample", "said").returncode == 0


def test_what_is_opened_never_becomes_standard_output(tmp_path):
    done = shell(f"cd {tmp_path}; DBCTL >&- 2>&- <&-", "sample", "wipe")
    assert done.returncode == 0
    assert (tmp_path / "done").read_text() == "None"


def test_a_standard_error_that_takes_nothing_changes_nothing():
    assert shell("DBCTL 2>/dev/full", "sample", "fault", "busy").returncode == 11


# Signals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_its_own_status_and_one_line(number):
    with subprocess.Popen(
        command("-o", "json", "sample", "wait"), env=CLEAN, stdout=-1, stderr=-1, text=True
    ) as running:
        assert running.stderr.readline() == "waiting\n"
        running.send_signal(number)
        stdout, stderr = running.communicate(timeout=20)
    assert running.returncode == 128 + number
    assert number.name in stderr
    assert "Traceback" not in stderr
    assert json.loads(stdout)["exit_code"] == 128 + number


# Questions -----------------------------------------------------------------------------------------------------


def terminal(*words, cwd, **environment):
    return pexpect.spawn(
        sys.executable,
        [str(SAMPLE), *words],
        cwd=str(cwd),
        encoding="utf-8",
        timeout=20,
        dimensions=(30, 100),
        env=CLEAN | {"TERM": "xterm"} | environment,
    )


def ended(child):
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def test_dry_run_shows_the_plan_and_does_nothing(tmp_path):
    told = data("sample", "wipe", "--step", "x", "--dry-run", cwd=tmp_path)
    assert set(told["data"]["plan"]) == {"title", "target", "steps", "rows", "destructive", "digest"}
    assert told["target"] == "shop/main"
    assert not (tmp_path / "done").exists()


def test_what_destroys_needs_a_yes_where_nobody_can_be_asked(tmp_path):
    done = dbctl("sample", "wipe", "--step", "x", cwd=tmp_path)
    assert (done.returncode, "--yes" in done.stderr) == (6, True)
    assert not (tmp_path / "done").exists()
    assert dbctl("sample", "wipe", "--step", "x", "-y", cwd=tmp_path).returncode == 0
    assert (tmp_path / "done").exists()


def test_a_protected_app_wants_its_name(tmp_path):
    words = ("sample", "wipe", "--step", "x")
    done = dbctl(*words, "--yes", cwd=tmp_path, PROTECTED="1")
    assert (done.returncode, "--confirm shop" in done.stderr) == (6, True)
    assert dbctl(*words, "--confirm", "shoq", cwd=tmp_path, PROTECTED="1").returncode == 6
    assert not (tmp_path / "done").exists()
    assert dbctl(*words, "--confirm", "shop", cwd=tmp_path, PROTECTED="1").returncode == 0


def test_what_destroys_nothing_asks_nothing(tmp_path):
    assert dbctl("sample", "wipe", cwd=tmp_path, PROTECTED="1").returncode == 0


@pytest.mark.parametrize(
    ("typed", "status", "done"), [("yes", 0, True), ("y", 0, True), ("no", 6, False), ("", 6, False)]
)
def test_a_terminal_is_asked_after_the_plan_was_shown(tmp_path, typed, status, done):
    child = terminal("sample", "wipe", "--step", "remove [bold]x", cwd=tmp_path)
    child.expect_exact("remove [bold]x")
    child.expect("Type yes or no: ")
    child.sendline(typed)
    assert (ended(child), (tmp_path / "done").exists()) == (status, done)


def test_the_plan_that_was_seen_is_the_one_that_is_done(tmp_path):
    child = terminal("sample", "wipe", "--step", "x", cwd=tmp_path, MOVED="1")
    child.sendline("yes")
    assert ended(child) == 6
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(("typed", "status"), [("shop", 0), ("yes", 6), ("sho", 6)])
def test_a_protected_app_wants_its_name_typed(tmp_path, typed, status):
    child = terminal("sample", "wipe", "--step", "x", cwd=tmp_path, PROTECTED="1")
    child.expect("Type its name")
    child.sendline(typed)
    assert ended(child) == status


@pytest.mark.parametrize("key", ["d", "c"])
def test_leaving_at_the_question_changes_nothing(tmp_path, key):
    child = terminal("sample", "wipe", "--step", "x", cwd=tmp_path)
    child.expect("yes or no: ")
    child.sendcontrol(key)
    assert ended(child) == 130
    assert not (tmp_path / "done").exists()
    assert "Traceback" not in (child.before or "")


# Passwords and names -------------------------------------------------------------------------------------------


def test_a_password_keeps_its_blanks_and_loses_only_the_end_of_its_line(tmp_path):
    assert data("sample", "password", "--password-stdin", stdin=" pass word \nrest")["data"]["right"]
    assert data("sample", "password", "--password-stdin", stdin=" pass word ")["data"]["right"]
    file = tmp_path / "p"
    file.write_text(" pass word \r\n")
    file.chmod(0o644)
    told = data("sample", "password", "--password-file", file)
    assert told["data"]["right"]
    assert "chmod 600" in told["warnings"][0]
    file.chmod(0o600)
    assert data("sample", "password", "--password-file", file)["warnings"] == []


def test_a_generated_password_is_long():
    assert data("sample", "password", "--generate")["data"] == {"length": 20, "made": True, "right": False}


@pytest.mark.parametrize(
    ("words", "stdin", "status"),
    [
        ((), "", 2),
        (("--password-stdin", "--generate"), "x", 2),
        (("--password-stdin",), "\n", 2),
        (("--password-stdin",), "", 2),
        (("--password-stdin",), "x" * 5000, 2),
        (("--password-stdin",), "\udcff\n", 2),
        (("--password-file", "/nonexistent/p"), "", 5),
        (("--password-file", "/"), "", 1),
    ],
)
def test_what_is_no_password_is_refused(words, stdin, status):
    done = dbctl("sample", "password", *words, stdin=stdin)
    assert done.returncode == status
    assert done.stderr.startswith("dbctl: ")


def test_a_password_is_typed_twice_and_not_shown(tmp_path):
    child = terminal("sample", "password", "-o", "json", cwd=tmp_path)
    for prompt, typed in [
        ("Password: ", "a"),
        ("more: ", "b"),
        ("Password: ", " pass word "),
        ("more: ", " pass word "),
    ]:
        child.expect(prompt)
        child.sendline(typed)
    child.expect_exact('"right": true')
    assert " pass word " not in child.before
    assert ended(child) == 0


def test_a_dash_reads_names_line_by_line():
    told = data("sample", "names", "a", "-", "c", stdin="b b\n\n  a  \r\nd")
    assert told["data"]["names"] == ["a", "b b", "d", "c"]


# Terminals -----------------------------------------------------------------------------------------------------


def seen(*words, cwd, **environment):
    child = terminal(*words, cwd=cwd, **environment)
    child.expect(pexpect.EOF)
    child.close()
    return child.before


HOSTILE = "[bold]\x1b[31m\u202e\u200b[/foo]\n"


def test_a_terminal_gets_nothing_that_steers_it(tmp_path):
    for form in ("table", "csv", "tsv", "markdown"):
        text = seen("sample", "list", "--limit", "1", "--no-color", "-o", form, cwd=tmp_path, TEXT=HOSTILE)
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "[bold]" in text
        assert "[/foo]" in text


@pytest.mark.parametrize("quiet", [{"NO_COLOR": "please"}, {"TERM": "dumb"}])
def test_colours_stay_away_when_asked(tmp_path, quiet):
    assert "\x1b" in seen("sample", "list", "--limit", "1", cwd=tmp_path)
    assert "\x1b" not in seen("sample", "list", "--limit", "1", cwd=tmp_path, **quiet)


def test_a_terminal_is_told_how_the_rest_is_reached(tmp_path):
    assert "2 of 1000000; --offset 2 shows more" in seen("sample", "list", "--limit", "2", cwd=tmp_path)
    assert "--offset" not in dbctl("sample", "list", "--limit", "2").stderr


def test_an_answer_that_goes_into_a_file_goes_there_also_where_progress_was_drawn(tmp_path):
    line = f"{shlex.join(command('sample', 'work', '3', '-o', 'json'))} > answer"
    child = pexpect.spawn("/bin/sh", ["-c", line], cwd=str(tmp_path), env=CLEAN | {"TERM": "xterm"})
    child.expect(pexpect.EOF)
    assert b"Working" in child.before
    assert json.loads((tmp_path / "answer").read_text())["ok"]
    assert b'"ok"' not in child.before


def test_progress_is_drawn_on_terminals_and_for_long_work_only(tmp_path):
    assert "Working [bold]" in seen("sample", "work", "3", cwd=tmp_path)
    assert "Working" not in seen("sample", "work", "0.2", cwd=tmp_path)
    assert dbctl("sample", "work", "2.5").stderr == ""
