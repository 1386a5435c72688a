"""A crontab as cron reads it: every line is parsed strictly, and its command run as cron would."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dbctl.cli.main import main
from dbctl.services.schedule.crontab import quoted
from tests.profiles.test_larder import PROFILE
from tests.services import flashpoint_app
from tests.services.flashpoint_app import rows, run
from tests.shapes.flashpoint_web import sixth_app_db

RANGES = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


def field(text, least, most):
    """Return the numbers that a field of a schedule means; a test fails where it is none."""
    numbers = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        low, high = (least, most) if span == "*" else (int(first), int(last if dash else first))
        assert least <= low <= high <= most, text
        assert re.fullmatch(r"[0-9]*", step), text
        numbers |= set(range(low, high + 1, int(step or 1)))
    return numbers


def unescaped(text):
    """Return the command of a line as cron gives it to the shell, and what it would write into its standard input."""
    command, given, hidden = [], None, False
    for at, letter in enumerate(text):
        if hidden:
            hidden = False
            if letter == "%":
                command.pop()
        elif letter == "\\":
            hidden = True
        elif letter == "%":
            given = text[at + 1 :]
            break
        command.append(letter)
    return "".join(command), given


def parsed(text, *, with_user=False):
    """Return schedule, user and command of every line of a crontab."""
    assert text.endswith("\n")
    found = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        assert len(line) < 1000
        words = line.split(maxsplit=6 if with_user else 5)
        numbers = [field(word, *limits) for word, limits in zip(words, RANGES, strict=False)]
        assert len(numbers) == 5
        command, given = unescaped(words[-1])
        assert given is None, line
        found.append((numbers, words[5] if with_user else None, command))
    return found


def as_cron(command):
    """Run a command as cron does: by sh, in another directory, with hardly an environment and no terminal."""
    return subprocess.run(
        ["env", "-i", "PATH=/usr/bin:/bin", "SHELL=/bin/sh", "/bin/sh", "-c", command],
        cwd="/",
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture(params=flashpoint_app.SHAPES)
def place(request, tmp_path, monkeypatch):
    """Two apps, with names and a directory that shells and cron stumble over."""
    folder = tmp_path / "a 'b' \"c\" %d \\%e $HOME `x`; #f"
    path = flashpoint_app.settle_sound(folder, request.param)
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
    def ask(*words, status=0):
        capsys.readouterr()
        assert main(["schedule", "cron", *words]) == status
        streams = capsys.readouterr()
        return streams.out if status == 0 else streams.err

    return ask


def test_every_line_is_one_of_a_crontab_and_runs_as_cron_runs_it_without_a_word(place, crontab):
    found = parsed(crontab("--all-apps"))
    assert len(found) == 12
    run(
        place / "second.db",
        "insert into login_attempts (username, ip_address, attempted_at) values ('x', 'y', '2024-01-01')",
    )
    for _numbers, _user, command in found:
        done = as_cron(command)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), command
    assert rows(place / "second.db", "select count(*) from login_attempts where attempted_at < '2025'") == [
        (0,)
    ]
    assert len(list((place / "backups of %").glob("*/*/manifest.json"))) == 2


def test_trouble_is_said_so_that_cron_mails_it(place, crontab):
    (place / "second.db").write_bytes(b"no database at all" * 100)
    for line in parsed(crontab("--app", "second")):
        done = as_cron(line[2])
        if words(line)[1] in ("prune", "verify"):
            continue  # they look at backups alone, of which there are none
        lacks = words(line)[1] == "drill"
        assert (done.returncode, done.stdout) == (10 if lacks else 4, ""), line
        assert ("there is no directory" if lacks else "is no SQLite database") in done.stderr


def test_several_apps_never_start_at_one_moment(place, crontab):
    config = place / "dbctl.toml"
    more = "".join(
        f'[apps.more{number}]\nprofile = "quick.toml"\n[apps.more{number}.databases]\nuser = "user.db"\n'
        f'[apps.more{number}.backup]\nrepository = "b"\nkeep = {{ last = 1 }}\n'
        for number in range(20)
    )
    config.write_text(config.read_text() + more)
    starts = [
        (hour, minute, day)
        for (minutes, hours, _days, _months, weekdays), _user, _command in parsed(crontab("--all-apps"))
        for minute in minutes
        for hour in hours
        for day in weekdays
        if day != 7
    ]
    assert len(starts) == len(set(starts))
    assert crontab("--all-apps") == crontab("--all-apps")


def test_one_app_has_the_same_minutes_alone_and_among_all(place, crontab):
    everything = crontab("--all-apps")
    for line in crontab("--app", "second").splitlines():
        assert line in everything


def test_with_a_user_each_line_says_as_whom_it_runs(place, crontab):
    found = parsed(crontab("--all-apps", "--user", "root"), with_user=True)
    assert {user for _numbers, user, _command in found} == {"root"}
    assert [command for *_, command in found] == [command for *_, command in parsed(crontab("--all-apps"))]
    for nobody in ("no such user", "nosuchuser", "root x", "-", "\udcff", "a\0b"):
        assert "no such user" in crontab("--app", "second", "--user", nobody, status=2)


def test_only_what_an_app_has_and_its_configuration_gives_is_among_the_lines(tmp_path, monkeypatch, crontab):
    flashpoint_app.settle_larder(tmp_path)
    monkeypatch.chdir(tmp_path)
    (line,) = parsed(crontab())
    assert "status --check" in line[2]
    config = tmp_path / "dbctl.toml"
    config.write_text(config.read_text() + '[apps.larder.backup]\nrepository = "backups"\n')
    assert [words(line)[:2] for line in parsed(crontab())] == [
        ["backup", "create"],
        ["backup", "verify"],
        ["backup", "drill"],
        ["status", "--check"],
    ]


def words(line):
    """Return the words behind the program."""
    return shlex.split(line[2])[1:]


def test_a_protected_app_is_pruned_by_its_name(place, crontab):
    for app, answer in (("second", ["--confirm", "second"]), ("%a \\% $b", ["%a \\% $b", "--yes"])):
        (prune,) = [told for line in parsed(crontab("--app", app)) if (told := words(line))[1] == "prune"]
        assert prune[-2:] == answer


def test_json_gives_the_commands_as_a_shell_takes_them(place, crontab):
    told = json.loads(crontab("--app", "second", "-o", "json"))["data"]["items"]
    assert [one["name"] for one in told] == ["backup", "prune", "verify", "drill", "cleanup", "status"]
    lines = parsed(crontab("--app", "second"))
    assert [shlex.split(one["command"])[1:] for one in told] == [words(line) for line in lines]
    assert as_cron(told[0]["command"]).returncode == 0


def test_an_app_without_a_configuration_is_described_by_its_lines(tmp_path, monkeypatch, crontab):
    sixth_app_db(tmp_path / "larder.db")
    monkeypatch.chdir(tmp_path)
    found = parsed(crontab("--profile", str(PROFILE), "--url", "pantry=larder.db"))
    assert [words(line)[:2] for line in found] == [["sessions", "cleanup"], ["status", "--check"]]
    for *_, command in found:
        assert as_cron(command).returncode == 0


def test_no_password_gets_into_a_crontab(tmp_path, crontab):
    told = crontab("--profile", "flashpoint-web", "--url", "user=mysql://u:s3cret@h/d", status=2)
    assert "password" in told
    assert "s3cret" not in told


def test_variables_that_the_configuration_needs_are_named_since_cron_has_none(place, crontab, monkeypatch):
    config = place / "dbctl.toml"
    config.write_text(config.read_text().replace('"backups of %"', '"${PLACE}/backups"'))
    monkeypatch.setenv("PLACE", str(place))
    text = crontab("--all-apps")
    assert "#PLACE=\n" in text
    parsed(text)


@pytest.mark.parametrize("name", ["line\nbreak", "bell\x07", "tab\there"])
def test_what_no_line_can_hold_is_refused(tmp_path, monkeypatch, crontab, name):
    flashpoint_app.settle(tmp_path, "deployed")
    config = tmp_path / "dbctl.toml"
    config.write_text(config.read_text().replace("apps.fp", f"apps.{json.dumps(name)}"))
    monkeypatch.chdir(tmp_path)
    assert "a crontab cannot hold" in crontab(status=2)


def test_a_line_that_is_too_long_for_cron_is_refused(tmp_path, monkeypatch, crontab):
    folder = tmp_path.joinpath(*["d" * 200] * 5)
    folder.mkdir(parents=True)
    flashpoint_app.settle(folder, "deployed")
    monkeypatch.chdir(folder)
    assert "no line of" in crontab(status=2)


@example("")
@example("%")
@example("\\%")
@example("it's 100\\% 'x'")
@given(st.text(st.sampled_from("%\\'\"$` a;é"), max_size=12))
def test_whatever_a_word_holds_the_shell_gets_it_back_with_and_without_a_cron_that_knows_percent(text):
    line = quoted(text)
    command, given = unescaped(line)
    assert given is None
    assert shlex.split(command) == shlex.split(line) == [text]


def test_sh_reads_words_as_they_were(tmp_path):
    for text in ("\\%", "it's 100\\% 'x'", "$(touch x)%`touch y`", "", "%%"):
        for line in (quoted(text), unescaped(quoted(text))[0]):
            assert as_cron(f"printf %s {line}").stdout == text


def test_vectors_are_put_together_once_a_month(tmp_path, monkeypatch, crontab):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "chat-lancedb", ".", "--users", "2", "--chats", "2", "--messages", "20", "-q"]) == 0
    (line,) = (one for one in parsed(crontab()) if words(one)[:2] == ["maintain", "optimize"])
    assert [len(numbers) for numbers in line[0][:4]] == [1, 1, 1, 12]
    done = as_cron(line[2])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def scheduled(tmp_path, monkeypatch, capsys):
    """Returns the schedules of an app with these lines under ``[apps.fp.schedule]``, or the failure."""

    def run_with(lines, status=0):
        folder = tmp_path / "scheduled"
        if not folder.exists():
            flashpoint_app.settle(folder, "deployed")
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
    usual = {name: schedule for name, schedule, _ in scheduled("")}
    assert "vacuum" not in usual
    changed = scheduled('cleanup = "5 * * * *"\nvacuum = "41 5 1 * *"\nstatus = "off"')
    schedules = {name: schedule for name, schedule, _ in changed}
    assert (schedules["cleanup"], schedules["vacuum"]) == ("5 * * * *", "41 5 1 * *")
    assert "status" not in schedules
    assert schedules.items() - {("cleanup", "5 * * * *"), ("vacuum", "41 5 1 * *")} <= usual.items()


def test_a_database_has_runs_of_its_own_beside_those_of_the_app(scheduled):
    jobs = scheduled('[apps.fp.schedule.databases.user]\nvacuum = "0 4 * * 0"\noptimize = "0 5 * * *"')
    own = [(name, schedule) for name, schedule, command in jobs if "--db=user" in command]
    assert ("vacuum", "0 4 * * 0") in own
    assert ("optimize", "0 5 * * *") in own


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ('cleanup = "nonsense"', "usage"),
        ('cleanup = "61 * * * *"', "usage"),
        ('cleanup = "0 0 3 * * *"', "usage"),
        ('cleanup = "* * * * *\\n1 1 1 1 1 rm"', "usage"),
        ('backup = "0 * * * *"', "usage"),  # there is no repository
        ('[apps.fp.schedule.databases.user]\nbackup = "0 * * * *"', "usage"),
        ('sweep = "0 * * * *"', "config-invalid"),
        ('[apps.fp.schedule.databases.nosuch]\nbackup = "0 * * * *"', "usage"),
        ('[apps.fp.schedule.databases.user]\ncleanup = "0 * * * *"', "config-invalid"),
    ],
)
def test_a_schedule_that_cron_does_not_read_is_refused(scheduled, lines, code):
    assert scheduled(lines, status=2)["code"] == code
