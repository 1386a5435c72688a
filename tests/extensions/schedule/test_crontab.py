"""Crontabs are parsed strictly, and their commands are run as by cron."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dbctl.cli.main import main
from dbctl.extensions.schedule.cron import quote
from tests.profiles.test_larder import PROFILE
from tests.receivers import read_json, receive_http
from tests.services import flashpoint_app
from tests.services.flashpoint_app import query_rows, run_statements
from tests.shapes.flashpoint_web import larder_db

RANGES = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


def parse_field(text, minimum, maximum):
    """Return the numbers of a field of a schedule; fail if it is invalid."""
    numbers = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        low, high = (minimum, maximum) if span == "*" else (int(first), int(last if dash else first))
        assert minimum <= low <= high <= maximum, text
        assert re.fullmatch(r"[0-9]*", step), text
        numbers |= set(range(low, high + 1, int(step or 1)))
    return numbers


def unescape(text):
    """Return the command that cron passes to the shell, and its standard input."""
    command, standard_input, escaped = [], None, False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
            if character == "%":
                command.pop()
        elif character == "\\":
            escaped = True
        elif character == "%":
            standard_input = text[index + 1 :]
            break
        command.append(character)
    return "".join(command), standard_input


def parse_crontab(text, *, with_user=False):
    """Return the schedule, user and command of each line of a crontab."""
    assert text.endswith("\n")
    entries = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        assert len(line) < 1000
        fields = line.split(maxsplit=6 if with_user else 5)
        numbers = [parse_field(word, *limits) for word, limits in zip(fields, RANGES, strict=False)]
        assert len(numbers) == 5
        command, standard_input = unescape(fields[-1])
        assert standard_input is None, line
        entries.append((numbers, fields[5] if with_user else None, command))
    return entries


def run_as_cron(command):
    """Run a command as cron does: with sh, in another directory, a minimal environment and no terminal."""
    return subprocess.run(
        ["env", "-i", "PATH=/usr/bin:/bin", "SHELL=/bin/sh", "DBCTL_STATE=off", "/bin/sh", "-c", command],
        cwd="/",
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Create two apps whose names and directory need quoting in shells and crontabs."""
    folder = tmp_path / "a 'b' \"c\" %d \\%e $HOME `x`; #f"
    path = flashpoint_app.create_valid_app(folder, "deployed")
    config = (folder / "dbctl.toml").read_text().partition("[apps.fp.backup]")[0]
    first = config.replace("apps.fp", "apps.'%a \\% $b'") + (
        "[apps.'%a \\% $b'.backup]\nrepository = \"backups of %\"\nkeep = { last = 2 }\n"
    )
    second = (
        config.replace("apps.fp", "apps.second").replace("user.db", "second.db").replace("false", "true")
        + '[apps.second.backup]\nrepository = "backups of %"\nkeep = { last = 1 }\n'
    )
    (folder / "second.db").write_bytes(path.read_bytes())
    (folder / "dbctl.toml").write_text(first + second)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def crontab(capsys):
    def run(*words, status=0):
        capsys.readouterr()
        assert main(["schedule", "cron", *words]) == status
        streams = capsys.readouterr()
        return streams.out if status == 0 else streams.err

    return run


@pytest.mark.slow
def test_every_crontab_line_runs_without_output(folder, crontab):
    entries = parse_crontab(crontab("--all-apps"))
    assert len(entries) == 12
    run_statements(
        folder / "second.db",
        "insert into login_attempts (username, ip_address, attempted_at) values ('x', 'y', '2024-01-01')",
    )
    for _numbers, _user, command in entries:
        process = run_as_cron(command)
        assert (process.returncode, process.stdout, process.stderr) == (0, "", ""), command
    assert query_rows(
        folder / "second.db", "select count(*) from login_attempts where attempted_at < '2025'"
    ) == [(0,)]
    assert len(list((folder / "backups of %").glob("*/*/manifest.json"))) == 2


@pytest.mark.slow
def test_errors_are_printed_for_cron_mail(folder, crontab):
    (folder / "second.db").write_bytes(b"no database at all" * 100)
    for line in parse_crontab(crontab("--app", "second")):
        process = run_as_cron(line[2])
        if split_arguments(line)[1] in ("prune", "verify"):
            continue  # these commands read only backups, and none exist
        is_drill = split_arguments(line)[1] == "drill"
        assert (process.returncode, process.stdout) == (10 if is_drill else 4, ""), line
        assert ("directory not found" if is_drill else "is not a SQLite database") in process.stderr


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--all-apps",), ("--app", "second")])
def test_commands_of_the_comments_install_the_crontab_or_leave_it(folder, crontab, tmp_path, words):
    text = crontab(*words)
    replace, append, _system = [line[4:] for line in text.splitlines() if line.startswith("#   ")]
    installed, program = tmp_path / "installed", tmp_path / "bin" / "crontab"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = -l ]; then cat {installed}; else new=$(cat "$1"); printf "%s\\n" "$new" > {installed}; fi\n'
    )
    program.chmod(0o755)
    installed.write_text("0 0 * * * existing\n")

    def install(command):
        return subprocess.run(
            ["/bin/sh", "-c", command], env={"PATH": f"{program.parent}:/usr/bin:/bin"}, check=False
        ).returncode

    assert (install(append), installed.read_text()) == (0, "0 0 * * * existing\n" + text)
    assert (install(replace), installed.read_text()) == (0, text)
    (folder / "dbctl.toml").write_text("invalid")
    for command in (append, replace):
        assert (install(command) != 0, installed.read_text()) == (True, text)


@pytest.mark.slow
def test_jobs_of_apps_start_at_different_times(folder, crontab):
    config = folder / "dbctl.toml"
    apps = "".join(
        f'[apps.more{number}]\nprofile = "quick.toml"\n[apps.more{number}.databases]\nuser = "user.db"\n'
        f'[apps.more{number}.backup]\nrepository = "b"\nkeep = {{ last = 1 }}\n'
        for number in range(20)
    )
    config.write_text(config.read_text() + apps)
    starts = [
        (hour, minute, day)
        for (minutes, hours, _days, _months, weekdays), _user, _command in parse_crontab(
            crontab("--all-apps")
        )
        for minute in minutes
        for hour in hours
        for day in weekdays
        if day != 7
    ]
    assert len(starts) == len(set(starts))
    assert crontab("--all-apps") == crontab("--all-apps")


def test_app_has_same_schedule_alone_and_with_others(folder, crontab):
    everything = crontab("--all-apps")
    for line in crontab("--app", "second").splitlines():
        assert line in everything or line.startswith("#   ")  # the command that prints it again


def test_user_option_adds_user_to_each_line(folder, crontab):
    entries = parse_crontab(crontab("--all-apps", "--user", "root"), with_user=True)
    assert {user for _numbers, user, _command in entries} == {"root"}
    assert [command for *_, command in entries] == [
        command for *_, command in parse_crontab(crontab("--all-apps"))
    ]
    for name in ("no such user", "nosuchuser", "root x", "-", "\udcff", "a\0b"):
        assert "no such user" in crontab("--app", "second", "--user", name, status=2)


def test_jobs_depend_on_app_and_configuration(tmp_path, monkeypatch, crontab):
    flashpoint_app.create_larder(tmp_path)
    monkeypatch.chdir(tmp_path)
    (line,) = parse_crontab(crontab())
    assert "status --check" in line[2]
    config = tmp_path / "dbctl.toml"
    config.write_text(config.read_text() + '[apps.larder.backup]\nrepository = "backups"\n')
    assert [split_arguments(line)[:2] for line in parse_crontab(crontab())] == [
        ["backup", "create"],
        ["backup", "verify"],
        ["backup", "drill"],
        ["status", "--check"],
    ]
    config.write_text(f'[notify.ntfy]\nurl = "http://localhost:9/topic"\n{config.read_text()}')
    assert [split_arguments(line)[:2] for line in parse_crontab(crontab())][-2:] == [
        ["notify", "check"],
        ["notify", "summary"],
    ]
    text = config.read_text()
    for rules, last in (("[]", "--check"), ('["failed"]', "check"), ('["summary"]', "summary")):
        config.write_text(f"{text}[apps.larder.notify]\non = {rules}\n")
        assert split_arguments(parse_crontab(crontab())[-1])[1] == last
    assert "check" not in [split_arguments(line)[1] for line in parse_crontab(crontab())]


def test_summary_is_one_weekly_job_for_all_apps(tmp_path, monkeypatch, crontab, capsys):
    flashpoint_app.create_larder(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    config = tmp_path / "dbctl.toml"
    apps = f'[apps.silent]\nprofile = "{tmp_path}/larder.toml"\ndatabases = "larder.db"\nnotify = {{ on = [] }}\n'
    apps += config.read_text() + config.read_text().replace("larder]", "other]").replace(
        ".larder.", ".other."
    )
    with receive_http() as receiver:
        config.write_text(f'[notify.webhook]\nurl = "{receiver.url}/hook"\n{apps}')
        (line,) = find_summaries(crontab("--all-apps"))
        assert (line[0][4], "--app" in line[2]) == ({1}, False)
        assert find_summaries(crontab("--app", "larder")) == [line]
        assert find_summaries(crontab("--app", "other")) == []
        monkeypatch.chdir("/")
        assert main(split_arguments(line)) == 0
        assert [read_json(request)["data"]["apps"] for request in receiver.requests] == [["larder", "other"]]
    config.write_text(f'{config.read_text()}[apps.larder.schedule]\nsummary = "off"\n')
    monkeypatch.chdir(tmp_path)
    assert find_summaries(crontab("--all-apps")) == []


def find_summaries(text):
    return [line for line in parse_crontab(text) if split_arguments(line)[:2] == ["notify", "summary"]]


def split_arguments(line):
    """Return the arguments of the program."""
    return shlex.split(line[2])[1:]


def test_protected_app_is_pruned_with_confirm_option(folder, crontab):
    for app, options in (
        ("second", ["--confirm", "second", "--quiet"]),
        ("%a \\% $b", ["%a \\% $b", "--yes", "--quiet"]),
    ):
        (prune,) = [
            arguments
            for line in parse_crontab(crontab("--app", app))
            if (arguments := split_arguments(line))[1] == "prune"
        ]
        assert prune[-3:] == options


def test_json_contains_shell_commands(folder, crontab):
    items = json.loads(crontab("--app", "second", "-o", "json"))["data"]["items"]
    assert [job["name"] for job in items] == ["backup", "prune", "verify", "drill", "cleanup", "status"]
    lines = parse_crontab(crontab("--app", "second"))
    assert [shlex.split(job["command"])[1:] for job in items] == [split_arguments(line) for line in lines]
    assert run_as_cron(items[0]["command"]).returncode == 0


def test_jobs_of_app_without_configuration_use_options(tmp_path, monkeypatch, crontab):
    larder_db(tmp_path / "larder.db")
    monkeypatch.chdir(tmp_path)
    entries = parse_crontab(crontab("--profile", str(PROFILE), "--url", "pantry=larder.db"))
    assert [split_arguments(line)[:2] for line in entries] == [["sessions", "cleanup"], ["status", "--check"]]
    for *_, command in entries:
        assert run_as_cron(command).returncode == 0


def test_passwords_are_refused_in_crontab(tmp_path, crontab):
    message = crontab("--profile", "flashpoint-web", "--url", "user=mysql://u:s3cret@h/d", status=2)
    assert "password" in message
    assert "s3cret" not in message


def test_required_variables_are_listed_as_comments(folder, crontab, monkeypatch):
    config = folder / "dbctl.toml"
    config.write_text(config.read_text().replace('"backups of %"', '"${PLACE}/backups"'))
    monkeypatch.setenv("PLACE", str(folder))
    text = crontab("--all-apps")
    assert "#PLACE=\n" in text
    parse_crontab(text)


@pytest.mark.parametrize("name", ["line\nbreak", "bell\x07", "tab\there"])
def test_names_with_control_characters_are_refused(tmp_path, monkeypatch, crontab, name):
    flashpoint_app.create_app(tmp_path, "deployed")
    config = tmp_path / "dbctl.toml"
    config.write_text(config.read_text().replace("apps.fp", f"apps.{json.dumps(name)}"))
    monkeypatch.chdir(tmp_path)
    assert "not allowed in a crontab" in crontab(status=2)


def test_too_long_lines_are_refused(tmp_path, monkeypatch, crontab):
    folder = tmp_path.joinpath(*["d" * 200] * 5)
    folder.mkdir(parents=True)
    flashpoint_app.create_app(folder, "deployed")
    monkeypatch.chdir(folder)
    assert "too long for a crontab line" in crontab(status=2)


@example("")
@example("%")
@example("\\%")
@example("it's 100\\% 'x'")
@given(st.text(st.sampled_from("%\\'\"$` a;é"), max_size=12))
def test_quoted_words_survive_cron_and_shell(text):
    line = quote(text)
    command, standard_input = unescape(line)
    assert standard_input is None
    assert shlex.split(command) == shlex.split(line) == [text]


def test_sh_reads_quoted_words_unchanged(tmp_path):
    for text in ("\\%", "it's 100\\% 'x'", "$(touch x)%`touch y`", "", "%%"):
        for line in (quote(text), unescape(quote(text))[0]):
            assert run_as_cron(f"printf %s {line}").stdout == text


@pytest.mark.slow
def test_vectors_are_optimized_monthly(tmp_path, monkeypatch, crontab):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "chat-lancedb", ".", "--users", "2", "--chats", "2", "--messages", "20", "-q"]) == 0
    (line,) = (
        job for job in parse_crontab(crontab()) if split_arguments(job)[:2] == ["maintain", "optimize"]
    )
    assert [len(numbers) for numbers in line[0][:4]] == [1, 1, 1, 12]
    process = run_as_cron(line[2])
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


@pytest.fixture
def scheduled(tmp_path, monkeypatch, capsys):
    """Return a function that returns the schedules of an app for lines of ``[apps.fp.schedule]``, or the error."""

    def run_with(lines, status=0):
        folder = tmp_path / "scheduled"
        if not folder.exists():
            flashpoint_app.create_app(folder, "deployed")
        monkeypatch.chdir(folder)
        file = folder / "dbctl.toml"
        plain = file.read_text().partition("[apps.fp.schedule")[0]
        file.write_text(f"{plain}\n[apps.fp.schedule]\n{lines}\n")
        capsys.readouterr()
        assert main(["schedule", "cron", "-o", "json"]) == status
        answer = json.loads(capsys.readouterr().out)
        return answer["error"] or [
            (job["name"], job["schedule"], job["command"]) for job in answer["data"]["items"]
        ]

    return run_with


def test_schedules_come_from_the_configuration(scheduled):
    defaults = {name: schedule for name, schedule, _ in scheduled("")}
    assert "vacuum" not in defaults
    changed = scheduled('cleanup = "5 * * * *"\nvacuum = "41 5 1 * *"\nstatus = "off"')
    schedules = {name: schedule for name, schedule, _ in changed}
    assert (schedules["cleanup"], schedules["vacuum"]) == ("5 * * * *", "41 5 1 * *")
    assert "status" not in schedules
    assert schedules.items() - {("cleanup", "5 * * * *"), ("vacuum", "41 5 1 * *")} <= defaults.items()


def test_database_has_separate_schedules(scheduled):
    jobs = scheduled('[apps.fp.schedule.databases.user]\nvacuum = "0 4 * * 0"\noptimize = "0 5 * * *"')
    user_jobs = [(name, schedule) for name, schedule, command in jobs if "--db=user" in command]
    assert ("vacuum", "0 4 * * 0") in user_jobs
    assert ("optimize", "0 5 * * *") in user_jobs


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ('cleanup = "nonsense"', "config-invalid"),
        ('cleanup = "61 * * * *"', "config-invalid"),
        ('cleanup = "0 0 3 * * *"', "config-invalid"),
        ('cleanup = "* * * * *\\n1 1 1 1 1 rm"', "config-invalid"),
        ('backup = "0 * * * *"', "usage"),  # there is no repository
        ('[apps.fp.schedule.databases.user]\nbackup = "0 * * * *"', "usage"),
        ('sweep = "0 * * * *"', "config-invalid"),
        ('[apps.fp.schedule.databases.nosuch]\nbackup = "0 * * * *"', "usage"),
        ('[apps.fp.schedule.databases.user]\ncleanup = "0 * * * *"', "config-invalid"),
    ],
)
def test_invalid_schedules_are_refused(scheduled, lines, code):
    assert scheduled(lines, status=2)["code"] == code


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('cleanup = "@daily"', "cleanup"),
        ('cleanup = "0 0 31 2 *"', "cleanup"),
        ('every = "7m"', "every"),
        ('every = "15m"\nbackup = "0 1 * * *"', "every"),
        ('databases.user.vacuum = "soon"', "databases.user.vacuum"),
    ],
)
def test_validation_of_the_configuration_reports_times_that_cron_refuses(scheduled, answer, lines, key):
    assert scheduled(lines, status=2)["code"] == "config-invalid"
    (finding,) = answer("config", "validate", status=2)["data"]["findings"]
    assert f"apps.fp.schedule.{key}: " in finding["message"]
