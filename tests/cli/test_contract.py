"""The contract of every command: options, formats, exit codes, pipes, signals, prompts."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from dbctl.render.streams import Format
from tests.crash import forge
from tests.in_process import CLEAN_ENVIRONMENT

SAMPLE = Path(__file__).with_name("sample.py")
ROOT = Path(__file__).parents[2]


def command(*words):
    return [sys.executable, str(SAMPLE), *map(str, words)]


def dbctl(*words, cwd=ROOT, stdin="", **environment):
    """Run a command in a process that is forked from one with loaded modules, which takes a fifth of the time of an interpreter."""
    job = forge.start(
        cwd,
        *words,
        environment=environment,
        stdin=stdin.encode(errors="surrogateescape"),
        extension="tests.cli.sample",
    )
    # text mode would translate newlines
    stdout, stderr = (output.decode() for output in job.communicate())
    return subprocess.CompletedProcess(words, job.returncode, stdout, stderr)


def start_interpreter(*words, **environment):
    """Run a command with a new interpreter."""
    return subprocess.run(
        command(*words), env=CLEAN_ENVIRONMENT | environment, capture_output=True, text=True, check=False
    )


def data(*words, **more):
    process = dbctl("-o", "json", *words, **more)
    return json.loads(process.stdout)


def error(process):
    return json.loads(process.stdout)["error"]


# Options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("--app", "a", "sample", "options"),
        ("sample", "--app", "a", "options"),
        ("sample", "options", "--app", "a"),
    ],
)
def test_common_option_is_allowed_at_every_position(words):
    assert data(*words)["data"]["app"] == "a"


def test_later_options_override_earlier_ones_and_environment():
    assert data("--app", "a", "sample", "options", "--app", "b")["data"]["app"] == "b"
    assert data("--app", "a", "sample", "options", DBCTL_APP="env")["data"]["app"] == "a"
    assert data("sample", "options", "--app", "a", DBCTL_APP="env")["data"]["app"] == "a"
    assert data("sample", "options", DBCTL_APP="env")["data"]["app"] == "env"


def test_urls_accumulate():
    assert data("--url", "a=1", "sample", "--url", "b=2", "options", "--url", "c")["data"]["url"] == [
        "a=1",
        "b=2",
        "c",
    ]


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon", ""])
def test_invalid_timeout_is_refused(seconds):
    process = dbctl("sample", "options", f"--timeout={seconds}")
    assert process.returncode == 2
    assert "--timeout" in process.stderr
    assert process.stderr.count("\n") == 2


def test_timeout_zero_is_valid():
    assert data("sample", "options", "--timeout", "0")["data"]["timeout"] == 0


@pytest.mark.parametrize("limit", ["0", "-1", str(10**20), "1.5", "٣x", ""])
def test_invalid_limit_is_refused(limit):
    process = dbctl("sample", "list", f"--limit={limit}", "-o", "json")
    assert (process.returncode, error(process)["code"]) == (2, "usage")


@pytest.mark.parametrize("offset", ["-1", str(2**63)])
def test_invalid_offset_is_refused(offset):
    assert dbctl("sample", "list", f"--offset={offset}").returncode == 2


@pytest.mark.parametrize(
    ("sort", "expected"), [("a", "a"), ("-a", "-a"), ("a:desc", "-a"), ("a:asc", "a"), ("-a:desc", "a")]
)
def test_sort_accepts_both_forms_of_descending(sort, expected):
    assert data("sample", "list", "--limit=1", f"--sort={sort}")["data"]["items"][0]["sort"] == expected


@pytest.mark.parametrize("sort", ["a:down", "a:", "-", ":desc"])
def test_sort_without_column_is_refused(sort):
    process = dbctl("sample", "list", f"--sort={sort}", "-o", "json")
    assert (process.returncode, json.loads(process.stdout)["schema"]) == (2, "dbctl.sample.list/1")


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [(("usres",), "users"), (("sample", "lst"), "list"), (("sample", "list", "--limt", "1"), "--limit")],
)
def test_misspelled_argument_gets_suggestion(words, suggestion):
    process = dbctl(*words)
    assert process.returncode == 2
    assert suggestion in process.stderr
    assert not process.stdout


def test_command_help_refers_to_the_topic_of_common_options():
    shown = dbctl("sample", "list", "--help").stdout
    assert "--limit" in shown
    assert "--profile" not in shown
    assert "dbctl help options" in shown
    assert "--profile" in dbctl("help", "options").stdout
    assert "--profile" not in dbctl("--help").stdout


def test_missing_arguments_print_help_to_standard_error():
    process = dbctl("sample")
    assert (process.returncode, process.stdout) == (2, "")
    assert "Usage:" in process.stderr


@pytest.mark.needs_extension("demo")
def test_next_steps_are_printed_without_arguments_and_configuration():
    process = dbctl()
    assert (process.returncode, process.stdout) == (2, "")
    assert [line.rpartition("  ")[2].split()[:2] for line in process.stderr.splitlines()] == [
        ["dbctl", "init"],
        ["dbctl", "demo"],
        ["dbctl", "help"],
    ]


def test_help_fits_narrow_terminal():
    assert max(map(len, dbctl("--help", COLUMNS="60").stdout.splitlines())) <= 60


def test_version_is_printed_with_other_options():
    version = dbctl("--version").stdout
    assert version.startswith("dbctl ")
    assert version == dbctl("-q", "--version").stdout


def list_imports(*words):
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dbctl", *words],
        env=CLEAN_ENVIRONMENT,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        line.rpartition("|")[2].strip()
        for line in process.stderr.splitlines()
        if line.startswith("import time:")
    }


#: The help of a whole dbctl is a file.
@pytest.mark.parametrize("word", ["--version", pytest.param("--help", marks=pytest.mark.needs_extension())])
def test_version_and_help_import_no_heavy_modules(word):
    assert (
        list_imports(word) & {"typer", "msgspec", "rich", "enum", "re", "dbctl.errors.base", "dbctl.cli.main"}
        == set()
    )


def test_ordinary_command_imports_no_heavy_modules():
    modules = list_imports("completions", "show", "bash")
    assert "typer.main" in modules
    assert (
        modules & {"rich", "tabulate", "pydantic", "click", "sqlite_utils", "csv", "getpass", "tomlkit"}
        == set()
    )


# Formats -------------------------------------------------------------------------------------------------------


def test_json_is_one_object_on_success():
    result = data("sample", "list", "--limit", "2")
    assert {key: result[key] for key in ("schema", "ok", "exit_code", "error", "warnings")} == {
        "schema": "dbctl.sample.list/1",
        "ok": True,
        "exit_code": 0,
        "error": None,
        "warnings": ["a remark"],
    }
    assert {key: result["data"][key] for key in ("total", "limit", "offset", "has_more")} == {
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
        (("sample", "fault", "denied"), "file-denied", 1, "dbctl.sample.fault/1"),
        (("sample", "fault", "files"), "too-many-files", 1, "dbctl.sample.fault/1"),
        (("sample", "fault", "threads"), "too-many-processes", 1, "dbctl.sample.fault/1"),
        (("sample", "fault", "processes"), "too-many-processes", 1, "dbctl.sample.fault/1"),
        (("sample", "wipe", "--step", "x"), "confirmation-missing", 6, "dbctl.sample.wipe/1"),
        (("sample",), "usage", 2, "dbctl.sample/1"),
    ],
)
@pytest.mark.parametrize("form", [("-o", "json"), ("-ojson",), ("--output=json",), ("-qo", "json")])
def test_json_is_one_object_on_failure(words, code, status, schema, form):
    process = dbctl(*form, *words)
    response = json.loads(process.stdout)
    assert (response["ok"], response["data"], response["exit_code"], process.returncode) == (
        False,
        None,
        status,
        status,
    )
    assert (response["error"]["code"], response["schema"]) == (code, schema)
    assert process.stderr.startswith("dbctl: ")
    assert "Traceback" not in process.stderr


def test_format_of_environment_applies_to_failures():
    assert json.loads(dbctl("nope", DBCTL_OUTPUT="json").stdout)["error"]["code"] == "usage"


def test_internal_error_shows_location_without_values():
    process = dbctl("sample", "fault", "own")
    assert (process.returncode, process.stdout) == (1, "")
    assert "KeyError" in process.stderr
    assert "hunter2" not in process.stderr
    assert process.stderr.count("\n") == 2
    for loud in ("-v", "-qv", "--verbose"):
        assert "Traceback" in dbctl(loud, "sample", "fault", "own").stderr


def test_argument_similar_to_output_option_does_not_change_format():
    assert (
        json.loads(dbctl("-o", "json", "sample", "list", "--sort", "-joined_on", "--nope").stdout)["ok"]
        is False
    )


@pytest.mark.parametrize(
    "form", [form for form in Format if not form.is_report and form is not Format.TEMPLATE]
)
def test_secret_is_written_in_no_format(form):
    process = dbctl("sample", "secret", "-o", form)
    assert process.returncode == 1
    assert "hunter2" not in process.stdout + process.stderr


def test_unknown_column_error_lists_known_columns():
    process = dbctl("sample", "list", "--columns", "n,zip")
    assert process.returncode == 2
    assert "n, sort, text" in process.stderr


def test_columns_are_shown_in_requested_order():
    assert (
        dbctl("sample", "list", "--limit", "1", "--columns", "text,n", "-o", "csv").stdout == "text,n\nx,0\n"
    )


def test_excel_safe_prefixes_formulas_and_counts_them():
    process = dbctl(
        "sample", "list", "--limit", "2", "--columns", "text", "-o", "csv", "--excel-safe", TEXT="=1+1"
    )
    assert process.stdout == "text\n'=1+1\n'=1+1\n"
    assert "2 cells" in process.stderr
    assert dbctl("sample", "list", "--excel-safe").returncode == 2


def test_notes_are_written_except_with_quiet(tmp_path):
    words = ("sample", "list", "--limit", "1")
    assert "note: a remark" in dbctl(*words).stderr
    assert dbctl(*words, "--quiet").stderr == ""
    assert "note: a remark" in read_terminal_output(*words, cwd=tmp_path, NO_COLOR="1")
    assert "note: a remark" not in read_terminal_output(*words, "-q", cwd=tmp_path, NO_COLOR="1")


@pytest.mark.slow
def test_ascii_locale_does_not_fail():
    narrow = {"PYTHONIOENCODING": "ascii", "TEXT": "é"}
    assert "\\xe9" in start_interpreter("sample", "list", "--limit", "1", **narrow).stdout
    assert "é" in start_interpreter("sample", "list", "--limit", "1", "-o", "csv", **narrow).stdout
    assert start_interpreter("--help", **narrow).returncode == 0
    assert start_interpreter("sample", "--help", **narrow).returncode == 0


# Streams -------------------------------------------------------------------------------------------------------


def run_shell(script, *words, **environment):
    line = " ".join(f"'{word}'" for word in command(*words))
    return subprocess.run(
        ["bash", "-c", script.replace("DBCTL", line)],
        env=CLEAN_ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("form", ["table", "json", "csv", "jsonl", "tsv"])
def test_closed_pipe_exits_141_without_message(form):
    process = run_shell(
        "DBCTL | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}",
        "sample",
        "list",
        "--limit",
        "20000",  # more than the buffer of a pipe holds
        "-o",
        form,
        "-q",
    )
    assert (process.returncode, process.stderr) == (141, "")


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        ("sample", "--help"),
        ("sample", "options"),
        ("sample", "list", "--limit", "20000", "-q"),
        ("-o", "json", "sample", "options"),
    ],
)
def test_full_disk_at_standard_output_is_failure(words):
    process = run_shell("DBCTL >/dev/full", *words)
    assert process.returncode == 1
    assert "standard output: No space left" in process.stderr
    assert "Traceback" not in process.stderr
    assert "Exception ignored" not in process.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_ignored(closed):
    assert run_shell(f"DBCTL {closed}", "sample", "options").returncode == 0


def test_closed_stdout_is_not_reused_as_file_descriptor(tmp_path):
    process = run_shell(f"cd {tmp_path}; DBCTL >&- 2>&- <&-", "sample", "wipe")
    assert process.returncode == 0
    assert (tmp_path / "done").read_text() == "None"


def test_unwritable_standard_error_is_ignored():
    assert run_shell("DBCTL 2>/dev/full", "sample", "fault", "busy").returncode == 11


# Signals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_sets_exit_status_and_writes_one_line(number):
    with subprocess.Popen(
        command("-o", "json", "sample", "wait"), env=CLEAN_ENVIRONMENT, stdout=-1, stderr=-1, text=True
    ) as running:
        assert running.stderr.readline() == "waiting\n"
        running.send_signal(number)
        stdout, stderr = running.communicate(timeout=20)
    assert running.returncode == 128 + number
    assert number.name in stderr
    assert "Traceback" not in stderr
    assert json.loads(stdout)["exit_code"] == 128 + number


# Prompts -------------------------------------------------------------------------------------------------------


def start_on_terminal(*words, cwd, **environment):
    return pexpect.spawn(
        sys.executable,
        [str(SAMPLE), *words],
        cwd=str(cwd),
        encoding="utf-8",
        timeout=20,
        dimensions=(30, 100),
        env=CLEAN_ENVIRONMENT | {"TERM": "xterm"} | environment,
    )


def wait_for_exit(child_process):
    child_process.expect(pexpect.EOF)
    child_process.close()
    return child_process.exitstatus


def test_dry_run_shows_plan_without_change(tmp_path):
    result = data("sample", "wipe", "--step", "x", "--dry-run", cwd=tmp_path)
    assert set(result["data"]["plan"]) == {
        "title",
        "target",
        "steps",
        "rows",
        "deleted",
        "destructive",
        "digest",
        "retained",
        "failed",
    }
    assert result["target"] == "shop/main"
    assert not (tmp_path / "done").exists()


def test_destructive_command_without_terminal_requires_yes(tmp_path):
    process = dbctl("sample", "wipe", "--step", "x", cwd=tmp_path)
    assert (process.returncode, "--yes" in process.stderr) == (6, True)
    assert not (tmp_path / "done").exists()
    assert dbctl("sample", "wipe", "--step", "x", "-y", cwd=tmp_path).returncode == 0
    assert (tmp_path / "done").exists()


def test_removed_working_directory_is_refused_before_anything_is_changed(tmp_path):
    folder = tmp_path / "release"
    folder.mkdir()
    words = command("sample", "wipe", "--step", tmp_path / "x", "--yes")
    script = f"rmdir {folder} && exec {shlex.join(words)}"
    process = subprocess.run(
        ["sh", "-c", script], cwd=folder, env=CLEAN_ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout) == (5, "")
    assert "working directory not found: ." in process.stderr
    assert "internal error" not in process.stderr
    assert not list(tmp_path.iterdir())


def test_protected_app_requires_its_name(tmp_path):
    words = ("sample", "wipe", "--step", "x")
    process = dbctl(*words, "--yes", cwd=tmp_path, PROTECTED="1")
    assert (process.returncode, "--confirm shop" in process.stderr) == (6, True)
    assert dbctl(*words, "--confirm", "shoq", cwd=tmp_path, PROTECTED="1").returncode == 6
    assert not (tmp_path / "done").exists()
    assert dbctl(*words, "--confirm", "shop", cwd=tmp_path, PROTECTED="1").returncode == 0


def test_harmless_command_needs_no_confirmation(tmp_path):
    assert dbctl("sample", "wipe", cwd=tmp_path, PROTECTED="1").returncode == 0


@pytest.mark.parametrize(
    ("typed", "status", "is_applied"), [("yes", 0, True), ("y", 0, True), ("no", 6, False), ("", 6, False)]
)
def test_prompt_follows_plan_on_terminal(tmp_path, typed, status, is_applied):
    child = start_on_terminal("sample", "wipe", "--step", "remove [bold]x", cwd=tmp_path)
    child.expect_exact("remove [bold]x")
    child.expect("Type yes or no: ")
    child.sendline(typed)
    assert (wait_for_exit(child), (tmp_path / "done").exists()) == (status, is_applied)


def test_changed_plan_is_not_applied_after_confirmation(tmp_path):
    child = start_on_terminal("sample", "wipe", "--step", "x", cwd=tmp_path, MOVED="1")
    child.sendline("yes")
    assert wait_for_exit(child) == 6
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(("typed", "status"), [("shop", 0), ("yes", 6), ("sho", 6)])
def test_protected_app_prompts_for_its_name(tmp_path, typed, status):
    child = start_on_terminal("sample", "wipe", "--step", "x", cwd=tmp_path, PROTECTED="1")
    child.expect("Type its name")
    child.sendline(typed)
    assert wait_for_exit(child) == status


@pytest.mark.parametrize("key", ["d", "c"])
def test_leaving_prompt_changes_nothing(tmp_path, key):
    child = start_on_terminal("sample", "wipe", "--step", "x", cwd=tmp_path)
    child.expect("yes or no: ")
    child.sendcontrol(key)
    assert wait_for_exit(child) == 130
    assert not (tmp_path / "done").exists()
    assert "Traceback" not in (child.before or "")


# Passwords and names -------------------------------------------------------------------------------------------


def test_password_retains_spaces_without_line_end(tmp_path):
    assert data("sample", "password", "--password-stdin", stdin=" pass word \nrest")["data"]["right"]
    assert data("sample", "password", "--password-stdin", stdin=" pass word ")["data"]["right"]
    file = tmp_path / "p"
    file.write_text(" pass word \r\n")
    file.chmod(0o644)
    result = data("sample", "password", "--password-file", file)
    assert result["data"]["right"]
    assert "chmod 600" in result["warnings"][0]
    file.chmod(0o600)
    assert data("sample", "password", "--password-file", file)["warnings"] == []


def test_generated_password_has_20_characters():
    assert data("sample", "password", "--generate")["data"] == {"length": 20, "right": False}


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
def test_invalid_password_source_is_refused(words, stdin, status):
    process = dbctl("sample", "password", *words, stdin=stdin)
    assert process.returncode == status
    assert process.stderr.startswith("dbctl: ")


def test_password_is_typed_twice_without_echo(tmp_path):
    child = start_on_terminal("sample", "password", "-o", "json", cwd=tmp_path)
    for prompt, typed in [
        ("Password: ", "a"),
        ("Repeat password: ", "b"),
        ("Password: ", " pass word "),
        ("Repeat password: ", " pass word "),
    ]:
        child.expect(prompt)
        child.sendline(typed)
    child.expect_exact('"right": true')
    assert " pass word " not in child.before
    assert wait_for_exit(child) == 0


def test_dash_reads_names_from_standard_input():
    result = data("sample", "names", "a", "-", "c", stdin="b b\n\n  a  \r\nd")
    assert result["data"]["names"] == ["a", "b b", "d", "c"]


# Terminals -----------------------------------------------------------------------------------------------------


def read_terminal_output(*words, cwd, **environment):
    child = start_on_terminal(*words, cwd=cwd, **environment)
    child.expect(pexpect.EOF)
    child.close()
    return child.before


HOSTILE = "[bold]\x1b[31m\u202e\u200b[/foo]\n"


@pytest.mark.slow
def test_control_characters_are_escaped_on_terminal(tmp_path):
    for form in ("table", "csv", "tsv", "markdown", "html", "psql"):
        text = read_terminal_output(
            "sample", "list", "--limit", "1", "--no-color", "-o", form, cwd=tmp_path, TEXT=HOSTILE
        )
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "[bold]" in text
        assert "[/foo]" in text


@pytest.mark.parametrize("environment", [{"NO_COLOR": "please"}, {"TERM": "dumb"}])
def test_colors_can_be_disabled(tmp_path, environment):
    assert "\x1b" in read_terminal_output("sample", "list", "--limit", "1", cwd=tmp_path)
    assert "\x1b" not in read_terminal_output("sample", "list", "--limit", "1", cwd=tmp_path, **environment)


def test_last_line_shows_next_offset(tmp_path):
    words = ("sample", "list", "--limit", "2")
    assert "2 of 1,000,000; --offset 2 shows more" in read_terminal_output(*words, cwd=tmp_path)
    assert "2 of 1,000,000; --offset 2 shows more" in dbctl(*words, "-o", "csv").stderr
    assert "--offset" not in dbctl(*words, "-o", "json").stderr + dbctl(*words, "--quiet").stderr


def test_redirected_output_goes_to_file_despite_progress_bar(tmp_path):
    line = f"{shlex.join(command('sample', 'work', '1', '-o', 'json'))} > answer"
    child = pexpect.spawn(
        "/bin/sh", ["-c", line], cwd=str(tmp_path), env=CLEAN_ENVIRONMENT | {"TERM": "xterm"}
    )
    child.expect(pexpect.EOF)
    assert b"Working" in child.before
    assert json.loads((tmp_path / "answer").read_text())["ok"]
    assert b'"ok"' not in child.before


def test_progress_is_drawn_only_for_long_work_on_terminal(tmp_path):
    assert "Working [bold]" in read_terminal_output("sample", "work", "1", cwd=tmp_path)
    assert "Working" not in read_terminal_output("sample", "work", "0", cwd=tmp_path)
    assert dbctl("sample", "work", "1").stderr == "note: worked\n"
