"""Notifications of commands: what each channel receives, what is suppressed, and that no failure of a channel fails a command."""

from __future__ import annotations

import email
import email.policy
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import timedelta

import pytest

from dbctl.cli.main import main
from dbctl.extensions.reports.page import SIGNATURE
from dbctl.model import now
from dbctl.services.events.store import EventStore
from tests.crash import forge
from tests.fault_proxy import Response
from tests.receivers import listen, read_json, receive_http, receive_mail, wait_until

APP = '[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n[apps.blog.backup]\nrepository = "backups"\n'
SECRET = "hunter2-marked"


@pytest.fixture
def receiver():
    with receive_http() as receiver:
        yield receiver


@pytest.fixture
def blog(tmp_path, monkeypatch, receiver):
    """An app that notifies the receiver through all web channels."""
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection:
        connection.executescript("create table posts (id integer primary key, title text);")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PING_KEY", SECRET)
    monkeypatch.setenv("WEBHOOK_KEY", "whsec_bWFya2VkLWh1bnRlcjI=")
    configure(
        tmp_path,
        f'ping = "{receiver.url}/${{PING_KEY}}/{{app}}-{{command}}?create=1"\n'
        f'[notify.webhook]\nurl = "{receiver.url}/hook"\nsecret_env = "WEBHOOK_KEY"\n',
    )
    return tmp_path


def configure(folder, notify, app=APP):
    (folder / "dbctl.toml").write_text(f"[notify]\n{notify}\n{app}")


def list_pings(receiver):
    return [request.path.partition("?")[0] for request in receiver.requests if "/hook" not in request.path]


def list_notices(receiver):
    requests = [request for request in receiver.requests if request.path.startswith("/hook")]
    return [read_json(request) for request in requests]


def list_events(receiver):
    return [notice["type"] for notice in list_notices(receiver)]


def break_app(blog):
    (blog / "blog.db").rename(blog / "moved.db")


def repair_app(blog):
    (blog / "moved.db").rename(blog / "blog.db")


def run(*words):
    return main([*words, "--quiet"])


def read_run(answer):
    return answer("runs", "list", "--limit", "1")["data"]["items"][0]


def test_each_run_pings_its_start_and_its_result(blog, receiver):
    assert run("backup", "create") == 0
    break_app(blog)
    assert run("backup", "create") == 10
    address = f"/{SECRET}/blog-backup-create"
    assert list_pings(receiver) == [f"{address}{end}" for end in ("/start", "/0", "/start", "/10")]
    pings = [request for request in receiver.requests if "/hook" not in request.path]
    queries = [request.path.partition("?")[2] for request in pings]
    assert queries[0] == queries[1] != queries[2]
    assert queries[0].startswith("create=1&rid=")
    assert (pings[0].body, pings[3].method) == (b"", "POST")
    assert b"blog.db" in pings[3].body


def test_two_failures_send_one_message_and_the_next_success_is_a_recovery(blog, receiver):
    assert run("backup", "create") == 0
    assert list_events(receiver) == []
    break_app(blog)
    run("backup", "create")
    run("backup", "create")
    assert list_events(receiver) == ["dbctl.failed"]
    repair_app(blog)
    run("backup", "create")
    run("backup", "create")
    failed, recovered = list_notices(receiver)
    assert recovered["type"] == "dbctl.recovered"
    assert failed["data"]["apps"] == recovered["data"]["apps"] == ["blog"]
    assert failed["data"]["run"]["error"]["code"] == "database-missing"
    assert (failed["data"]["run"]["exit_code"], failed["data"]["run"]["id"]) == (10, 2)
    break_app(blog)
    run("backup", "create")
    assert list_events(receiver)[2:] == ["dbctl.failed"]


def test_output_of_a_hook_stays_in_the_journal(blog, receiver, answer):
    hooks = '[apps.blog.hooks.backup]\nbefore = ["sh", "-c", "echo hunter2; test -e ready"]\n'
    configure(blog, f'[notify.webhook]\nurl = "{receiver.url}/hook"\n', f"{APP}{hooks}")
    assert run("backup", "create") == 6
    (blog / "ready").touch()
    assert run("backup", "create") == 0
    for notice in list_notices(receiver):
        (hook,) = notice["data"]["run"]["hooks"]
        assert (hook["program"], hook["output"], hook["output_bytes"]) == ("sh", "", 8)
    assert list_events(receiver) == ["dbctl.failed", "dbctl.recovered"]
    assert "hunter2" in answer("runs", "show", "1")["data"]["hooks"][0]["output"]


def test_another_error_is_another_failure(blog, receiver):
    break_app(blog)
    run("backup", "create")
    (blog / "blog.db").write_text("no database, and long enough to be one")
    run("backup", "create")
    codes = [notice["data"]["run"]["error"]["code"] for notice in list_notices(receiver)]
    assert len(set(codes)) == 2


@pytest.mark.slow
def test_failure_is_repeated_after_the_configured_time_and_after_the_clock_was_set_back(blog, receiver):
    break_app(blog)
    run("backup", "create")
    for age, count in ((timedelta(days=2), 1), (timedelta(days=4), 2), (timedelta(days=-1), 3)):
        with EventStore(blog / "state").writing() as connection:
            connection.execute("update notices set sent_at = ?", ((now() - age).isoformat(),))
        run("backup", "create")
        assert len(list_notices(receiver)) == count


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        "delete from notices",
        "update notices set sent_at = 'soon'",
        "update notices set sent_at = x'00ff'",
        "update notices set sent_at = 7",
        "update notices set channel = x'ff'",
    ],
)
def test_missing_or_damaged_state_suppresses_nothing(blog, receiver, damage):
    break_app(blog)
    run("backup", "create")
    with EventStore(blog / "state").writing() as connection:
        connection.execute(damage)
    run("backup", "create")
    assert list_events(receiver) == ["dbctl.failed", "dbctl.failed"]
    run("backup", "create")
    assert len(list_events(receiver)) == 2


def test_recovery_that_was_not_delivered_is_sent_with_the_next_success(blog, receiver):
    break_app(blog)
    run("backup", "create")
    repair_app(blog)
    receiver.interfere = lambda _request: Response(status=500)
    run("backup", "create")
    receiver.requests.clear()
    receiver.interfere = lambda _request: Response()
    for _ in range(2):
        run("backup", "create")
    assert list_events(receiver) == ["dbctl.recovered"]


def test_without_a_journal_every_failure_is_sent(blog, receiver, monkeypatch):
    monkeypatch.setenv("DBCTL_STATE", "off")
    break_app(blog)
    for _ in range(2):
        assert run("backup", "create") == 10
    assert list_events(receiver) == ["dbctl.failed"] * 2


def test_unusable_state_directory_suppresses_nothing_and_fails_nothing(blog, receiver, monkeypatch):
    (blog / "file").write_text("")
    monkeypatch.setenv("DBCTL_STATE", str(blog / "file"))
    break_app(blog)
    for _ in range(2):
        assert run("backup", "create") == 10
    assert list_events(receiver) == ["dbctl.failed"] * 2


def test_check_sends_unreachable_database_by_default(blog, receiver, answer):
    break_app(blog)
    events = [notice["event"] for notice in answer("notify", "check")["data"]["notices"]]
    assert events == ["overdue", "finding"]
    repair_app(blog)
    answer("notify", "check")
    assert list_events(receiver)[2:] == ["dbctl.recovered"]


def test_notice_before_one_that_fails_is_sent_once(blog, receiver, answer):
    break_app(blog)
    statuses = iter([200, 503])
    receiver.interfere = lambda _request: Response(status=next(statuses))
    first = answer("notify", "check", status=10)["data"]
    assert [notice["event"] for notice in first["notices"]] == ["overdue"]
    receiver.interfere = lambda _request: Response()
    receiver.requests.clear()
    assert [notice["event"] for notice in answer("notify", "check")["data"]["notices"]] == ["finding"]
    assert list_events(receiver) == ["dbctl.finding"]


def test_rules_select_events(blog, receiver):
    configure(blog, f'on = ["recovered"]\n[notify.webhook]\nurl = "{receiver.url}/hook"\n')
    break_app(blog)
    run("backup", "create")
    assert list_events(receiver) == []
    repair_app(blog)
    run("backup", "create")
    assert list_events(receiver) == ["dbctl.recovered"]


def test_commands_of_a_person_and_impossible_commands_send_nothing(blog, receiver):
    assert run("data", "set", "posts", "1", "title=a") == 5
    assert run("sessions", "cleanup") == 2
    assert run("backup", "create", "--dry-run") == 0
    assert list_notices(receiver) == []
    assert list_pings(receiver) == [
        "/hunter2-marked/blog-sessions-cleanup/start",
        "/hunter2-marked/blog-sessions-cleanup/2",
    ]


REFUSED = [
    (("backup", "create", "--db", "nope"), "database-unknown"),
    (("backup", "prune", "--keep-last", "1"), "confirmation-missing"),
    (("maintain", "vacuum"), "read-only"),
]


@pytest.fixture
def read_only_blog(blog):
    """The app with two backups, and a profile whose database is read-only."""
    (blog / "ro.toml").write_text(
        'schema = "dbctl.profile/1"\nname = "ro"\ntitle = "Ro"\ntime = "iso-ms"\nboolean = "bool-01"\n'
        '[databases.main]\nengines = ["sqlite"]\nneeds = ["posts"]\nmode = "read-only"\nowner = "x"\n'
    )
    text = (blog / "dbctl.toml").read_text()
    for _ in range(2):
        assert run("backup", "create") == 0
    (blog / "dbctl.toml").write_text(text.replace('"plain"', '"ro.toml"'))
    return blog


@pytest.mark.slow
@pytest.mark.parametrize(("words", "code"), REFUSED)
def test_refused_words_are_recorded_and_no_failed_job(read_only_blog, receiver, answer, words, code):
    pings = list_pings(receiver)
    for _ in range(2):
        assert main([*words]) in (5, 6)
    record = read_run(answer)
    assert (record["command"], record["error"]["code"]) == (" ".join(words[:2]), code)
    assert (list_notices(receiver), list_pings(receiver)) == ([], pings)
    assert answer("status", "--check")["warnings"] == []
    assert answer("report")["data"]["totals"]["failed_runs"] == 0
    findings = answer("doctor", status=None)["data"]["findings"]
    assert "run-failing" not in {finding["code"] for finding in findings}
    assert main([*words, "--quiet"]) in (5, 6)  # no user reads the output: a job that cannot work
    assert list_events(receiver) == ["dbctl.failed"]
    assert "run-failing" in {item["code"] for item in answer("doctor", status=None)["data"]["findings"]}


@pytest.mark.slow
def test_failure_at_a_terminal_is_no_failed_job_and_ends_none(blog, receiver, answer):
    environment = {"DBCTL_STATE": str(blog / "state"), "PING_KEY": SECRET, "WEBHOOK_KEY": "key"}
    break_app(blog)
    assert run_on_terminal(blog, "backup", "create", environment=environment) == 10
    assert read_run(answer)["origin"] == "terminal"
    assert (list_events(receiver), list_pings(receiver)) == ([], [])
    assert run("backup", "create") == 10
    assert run_on_terminal(blog, "backup", "create", environment=environment) == 10
    findings = answer("doctor", status=None)["data"]["findings"]
    assert "run-failing" in {finding["code"] for finding in findings}
    repair_app(blog)
    assert run_on_terminal(blog, "backup", "create", environment=environment) == 0
    assert list_events(receiver) == ["dbctl.failed", "dbctl.recovered"]


def run_on_terminal(folder, *words, environment):
    """Run a command whose standard error is a terminal; return its exit code."""
    primary, secondary = os.openpty()
    try:
        command = [sys.executable, "-m", "dbctl", *words]
        process = subprocess.run(
            command, cwd=folder, env={**os.environ, **environment}, stderr=secondary, check=False
        )
        return process.returncode
    finally:
        os.close(secondary)
        os.close(primary)


@pytest.mark.parametrize("words", [["backup", "create"], ["backup", "create", "--quiet"]])
def test_job_with_a_broken_configuration_fails(blog, answer, words):
    text = (blog / "dbctl.toml").read_text()
    (blog / "dbctl.toml").write_text(
        text.replace('repository = "backups"', 'repository = "${UNSET_VARIABLE}"')
    )
    assert main(["--app", "blog", *words]) == 2
    (blog / "dbctl.toml").write_text(text)
    assert any("(config-invalid)" in text for text in answer("status", "--check", status=3)["warnings"])


@pytest.mark.parametrize(
    ("notify", "events"),
    [
        ('on = ["finding"]', ["dbctl.finding"]),
        ('on = ["finding", "failed"]', ["dbctl.failed"]),
        ('on = ["finding", "recovered"]', ["dbctl.finding", "dbctl.recovered"]),
        ("", ["dbctl.failed", "dbctl.recovered"]),
    ],
)
def test_findings_are_sent_once_and_with_the_failure(blog, receiver, notify, events):
    configure(blog, f'{notify}\n[notify.webhook]\nurl = "{receiver.url}/hook"\n')
    with closing(sqlite3.connect(blog / "blog.db")) as connection:
        connection.executescript(
            "create table notes (post integer references posts (id)); insert into notes values (7);"
        )
    for _ in range(2):
        assert run("integrity", "check") == 4
    with closing(sqlite3.connect(blog / "blog.db", isolation_level=None)) as connection:
        connection.execute("delete from notes")
    run("integrity", "check")
    sent = list_notices(receiver)
    assert [notice["type"] for notice in sent] == events
    assert sent[0]["data"]["findings"][0]["code"] == "foreign-key-orphans"


def test_section_of_an_app_replaces_keys_of_all_apps(blog, receiver):
    notify = f'[notify.webhook]\nurl = "{receiver.url}/hook"\n'
    shop = APP.replace("blog", "shop").replace("shop.db", "missing.db")
    own = f'[apps.shop.notify]\non = []\n[apps.shop.notify.ping]\n"backup create" = "{receiver.url}/shop"\n'
    configure(blog, notify, APP + shop + own)
    break_app(blog)
    assert run("backup", "create", "--app", "shop") == 10
    assert list_pings(receiver) == ["/shop/start", "/shop/10"]
    assert list_events(receiver) == []
    assert run("backup", "create", "--app", "blog") == 10
    assert list_events(receiver) == ["dbctl.failed"]


@pytest.mark.parametrize("fault", ["500", "redirect", "hang", "closed", "endless", "no host"])
def test_failing_channel_is_a_warning_and_a_record(blog, receiver, answer, capsys, fault):
    """The exit code is that of the backup, the secret is not printed, and the command ends within seconds."""
    location = {"Location": f"{receiver.url}/elsewhere"}
    responses = {"500": Response(status=500), "redirect": Response(status=307, headers=location)}
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n" + b"x" * 4096
    receiver.interfere = lambda _request: responses.get(fault, Response())
    begin = time.monotonic()
    with listen() as silent, listen(endless, repeat=True) as flood:
        urls = {
            "hang": f"http://127.0.0.1:{silent}",
            "closed": "http://127.0.0.1:9",
            "endless": f"http://127.0.0.1:{flood}",
            "no host": "http://host.invalid",
        }
        url = urls.get(fault, receiver.url)
        configure(blog, f'[notify.ping]\n"backup create" = "{url}/${{PING_KEY}}"\n')
        capsys.readouterr()
        assert run("backup", "create") == 0
        warnings = capsys.readouterr().err
    assert time.monotonic() - begin < 15
    assert SECRET not in warnings
    expected = 0 if fault == "endless" else 2
    assert warnings.count("not notified through ping") == expected
    record = read_run(answer)
    assert (record["result"], len(record["warnings"])) == ("ok", expected)
    assert SECRET not in json.dumps(record)
    assert all("/elsewhere" not in request.path for request in receiver.requests)


@pytest.mark.slow
def test_failure_that_no_channel_delivered_is_sent_later(blog, receiver):
    receiver.interfere = lambda _request: Response(status=503)
    break_app(blog)
    run("backup", "create")
    receiver.interfere = lambda _request: Response()
    receiver.requests.clear()
    assert run("notify", "check") == 0
    (failed,) = [notice for notice in list_notices(receiver) if notice["type"] == "dbctl.failed"]
    assert "database-missing" in failed["data"]["text"]
    run("backup", "create")
    assert list_events(receiver).count("dbctl.failed") == 1


def test_missing_secret_is_a_warning(blog, receiver, capsys, monkeypatch):
    monkeypatch.delenv("PING_KEY")
    monkeypatch.delenv("WEBHOOK_KEY")
    break_app(blog)
    assert run("backup", "create") == 10
    text = capsys.readouterr().err
    assert "PING_KEY" in text
    assert "WEBHOOK_KEY" in text
    assert receiver.requests == []


def test_failed_backup_is_mailed(blog):
    with receive_mail() as server:
        configure(
            blog,
            f'[notify.email]\nto = ["ann@example.org"]\nhost = "127.0.0.1"\nport = {server.port}\ntls = "none"\n',
        )
        break_app(blog)
        run("backup", "create")
    (message,) = server.messages
    assert "Subject: blog: backup create failed (database-missing)" in message.content
    parsed = email.message_from_string(message.content, policy=email.policy.default)
    assert "exit code 10" in parsed.get_content()


def test_check_sends_overdue_work_once_and_its_end(blog, receiver, answer):
    app = f'{APP}max_age = "26h"\n'
    configure(blog, f'[notify.webhook]\nurl = "{receiver.url}/hook"\n', app)
    receiver.interfere = lambda _request: Response(status=500)
    assert answer("notify", "check", status=10)["data"]["notices"] == []
    receiver.interfere = lambda _request: Response()
    receiver.requests.clear()
    first = answer("notify", "check")["data"]
    assert [notice["event"] for notice in first["notices"]] == ["overdue"]
    expected = {"notices": [], "suppressed": 1, "deliveries": [], "effect": None}
    assert answer("notify", "check")["data"] == expected
    run("backup", "create")
    answer("backup", "drill", status=None)
    answer("notify", "check")
    assert list_events(receiver)[0] == "dbctl.overdue"
    assert list_events(receiver)[-1] in ("dbctl.recovered", "dbctl.overdue")


def test_overdue_work_of_an_app_that_cannot_be_read_has_not_ended(blog, receiver, answer):
    app, notify = f'{APP}max_age = "26h"\n', f'[notify.webhook]\nurl = "{receiver.url}/hook"\n'
    configure(blog, notify, app)
    answer("notify", "check")
    configure(blog, notify, app.replace('"plain"', '"missing.toml"'))
    answer("notify", "check")
    assert list_events(receiver) == ["dbctl.overdue", "dbctl.finding"]


def test_job_that_was_not_started_is_noticed_by_the_next_job(blog, receiver):
    configure(blog, f'[notify.webhook]\nurl = "{receiver.url}/hook"\n', f'{APP}max_age = "26h"\n')
    run("backup", "create")
    with closing(sqlite3.connect(blog / "state/events.sqlite")) as connection:
        record = json.loads(connection.execute("select record from runs").fetchone()[0])
        record["started_at"] = "2026-01-01T03:00:00Z"
        connection.execute("update runs set record = ?", (json.dumps(record).encode(),))
        connection.commit()
    for _ in range(2):
        assert run("integrity", "check") == 0
    assert list_events(receiver) == ["dbctl.overdue"]
    run("backup", "create")
    assert list_events(receiver) == ["dbctl.overdue", "dbctl.recovered"]


@pytest.mark.slow
def test_killed_backup_is_reported_by_the_next_command(blog, receiver):
    state = {"DBCTL_STATE": str(blog / "state"), "PING_KEY": SECRET, "WEBHOOK_KEY": "key"}
    with closing(sqlite3.connect(blog / "blog.db", isolation_level=None)) as connection:
        connection.execute("begin exclusive")
        job = forge.start(blog, "backup", "create", "--timeout", "60", "--quiet", environment=state)
        wait_until(lambda: list_pings(receiver))
        os.kill(job.pid, signal.SIGKILL)
        job.wait()
    assert list_events(receiver) == []
    run("data", "set", "posts", "1", "title=a")
    (notice,) = list_notices(receiver)
    assert (notice["type"], notice["data"]["run"]["result"]) == ("dbctl.failed", "interrupted")
    run("backup", "create")
    assert list_events(receiver) == ["dbctl.failed", "dbctl.recovered"]


def test_summary_is_one_message_about_all_apps(blog, receiver, answer):
    shop = APP.replace("blog", "shop")
    configure(blog, f'[notify.webhook]\nurl = "{receiver.url}/hook"\n', APP + shop)
    run("backup", "create", "--app", "blog")
    data = answer("notify", "summary")["data"]
    (notice,) = list_notices(receiver)
    assert notice["data"]["apps"] == ["blog", "shop"]
    assert [entry["event"] for entry in data["notices"]] == ["summary"]
    assert "backup create: 1 run" in notice["data"]["text"]
    assert "shop" in notice["data"]["text"]


@pytest.mark.parametrize("command", ["check", "summary"])
@pytest.mark.parametrize("app", ["", "shop"])
def test_run_is_recorded_for_its_apps_and_sends_nothing_about_itself(blog, receiver, answer, command, app):
    shop = APP.replace("blog", "shop")
    channels = f'ping = "{receiver.url}/{{app}}-{{command}}"\n[notify.webhook]\nurl = "{receiver.url}/hook"\n'
    configure(blog, channels, APP + shop)
    answer("notify", command, *(["--app", app] if app else []), status=None)
    recorded = read_run(answer)
    assert (recorded["command"], recorded["app"], recorded["result"]) == (
        f"notify {command}",
        app or "blog, shop",
        "ok",
    )
    assert list_pings(receiver) == []


def test_test_reports_each_channel_and_sends_no_result_of_a_job(blog, receiver, answer):
    items = answer("notify", "test")["data"]["items"]
    assert [(item["channel"], item["delivered"]) for item in items] == [("ping", True), ("webhook", True)]
    assert list_pings(receiver) == [f"/{SECRET}/blog-backup-create/log"]
    assert list_events(receiver) == ["dbctl.test"]
    receiver.interfere = lambda request: Response(status=500 if "/hook" in request.path else 200)
    items = answer("notify", "test", status=12)["data"]["items"]
    assert SECRET not in json.dumps(items)
    answer("notify", "test", "webhook", status=10)
    assert answer("notify", "test", "email", status=2)["error"]["code"] == "notify-not-configured"
    assert answer("notify", "test", "--app", "none", status=5)["error"]["code"] == "app-missing"


def test_secrets_are_in_no_output(blog, answer, capsys):
    own = (
        f'[apps.blog.notify.ping]\n"backup create" = "https://hc-ping.com/{SECRET}"\n'
        f'[apps.blog.notify.webhook]\nurl = "https://example.org/x?token={SECRET}"\n'
        f'[apps.blog.notify.apprise]\nurls = ["tgram://{SECRET}/1", "https://u:{SECRET}@h/"]\n'
    )
    configure(blog, "", APP + own)
    for words in (
        ("config", "show"),
        ("config", "show", "--defaults"),
        ("config", "validate"),
        ("doctor",),
        ("support", "--to", "bundle.tar.gz"),
    ):
        assert SECRET not in json.dumps(answer(*words, status=None))
    import tarfile

    with tarfile.open("bundle.tar.gz") as archive:
        members = [archive.extractfile(member).read() for member in archive.getmembers()]
    assert not [member for member in members if SECRET.encode() in member]
    assert "hc-ping.com/***" in json.dumps(answer("config", "show"))


@pytest.mark.parametrize(
    ("notify", "key"),
    [
        ('ping = "https://x/{app}"', "ping"),
        ('ping = "https://x/{command}/{user}"', "ping"),
        ('[notify.ping]\n"users list" = "https://x/"', "ping"),
        ('[notify.ping]\n"backup create" = "ftp://x/"', "ping"),
        ('[notify.ping]\n"backup create" = "https://user:password@x/"', "ping"),
        ('repeat = "often"', "repeat"),
        ('on = ["success"]', "on"),
        ('severity = "bad"', "severity"),
        ('[notify.ntfy]\nurl = "https://ntfy.sh"', "ntfy"),
        ('[notify.ntfy]\nurl = "http://ntfy.lan/x"\ntoken_env = "T"', "ntfy"),
        ('[notify.ntfy]\nurl = "https://ntfy.sh/x"\ntoken_env = "T"\ntoken_file = "t"', "ntfy"),
        ('[notify.webhook]\nurl = "https://x/"\nsecret_env = "not a name"', "webhook"),
        ('[notify.email]\nto = []\nhost = "h"', "email"),
        ('[notify.email]\nto = ["ann"]\nhost = "h"', "email"),
        ('[notify.email]\nto = ["a@b\\nBcc: c@d"]\nhost = "h"', "email"),
        ('[notify.email]\nto = ["a@b"]\nhost = "h"\ntls = "none"\nuser = "u"\npassword_env = "P"', "email"),
        ('[notify.email]\nto = ["a@b"]\nhost = "h"\nuser = "u"', "email"),
        ('[notify.email]\nto = ["a@b"]\nhost = "h h"', "email"),
        ('[notify.email]\nto = ["a@b"]\nhost = "h"\nport = 70000', "email"),
        ("[notify.apprise]\nurls = []", "apprise"),
        ("unknown = 1", "notify"),
    ],
)  # fmt: skip
def test_invalid_section_is_reported_with_its_key(blog, answer, notify, key):
    configure(blog, notify)
    data = answer("config", "validate", status=2)["data"]
    assert key in data["findings"][0]["message"]
    assert answer("status", status=2)["error"]["code"] == "config-invalid"


def test_address_for_several_apps_requires_the_name_of_the_app(blog, answer):
    configure(blog, 'ping = "https://x/{command}"\n', APP + APP.replace("blog", "shop"))
    assert "{app}" in answer("config", "validate", status=2)["data"]["findings"][0]["message"]


def test_entries_of_concurrent_runs_are_merged(blog):
    from dbctl.services.events.notices import SentNotices

    folder = blog / "state"
    first, second = SentNotices(folder, "c"), SentNotices(folder, "c")
    first.add("blog", "backup create", "x", "webhook")
    second.add("blog", "backup prune", "y", "webhook")
    first.store()
    second.store()
    assert SentNotices(folder, "c").find("blog", "backup create") is not None
    assert SentNotices(folder, "c").find("blog", "backup prune") is not None


@pytest.mark.slow
def test_signal_during_the_first_ping_ends_the_run_with_its_result(blog, receiver, answer):
    """The service does not respond; the run is recorded as stopped and not as interrupted."""
    with listen() as silent:
        configure(blog, f'[notify.ping]\n"backup create" = "http://127.0.0.1:{silent}/"\n')
        job = forge.start(
            blog, "backup", "create", "--quiet", environment={"DBCTL_STATE": str(blog / "state")}
        )
        wait_until(lambda: answer("runs", "list")["data"]["total"])
        os.kill(job.pid, signal.SIGTERM)
        job.wait()
    assert read_run(answer)["result"] == "stopped"


@pytest.mark.slow
def test_fleet_sends_one_message_with_the_failed_instances(blog, receiver):
    app = '[apps.shops]\nprofile = "plain"\ndatabases = "shops/*.db"\n[apps.shops.backup]\nrepository = "b"\n'
    configure(blog, f'[notify.webhook]\nurl = "{receiver.url}/hook"\n', app)
    (blog / "shops").mkdir()
    for name in ("a", "b", "c"):
        with closing(sqlite3.connect(blog / f"shops/{name}.db")) as connection:
            connection.execute("create table posts (id integer primary key)")
    (blog / "shops/b.db").write_text("no database, and long enough to be one" * 9)
    assert run("backup", "create") == 12
    (failed,) = list_notices(receiver)
    assert failed["data"]["apps"] == ["shops"]
    assert "shops/b" in failed["data"]["text"]
    assert "shops/a" not in failed["data"]["text"]
    assert run("notify", "check") == 0
    assert run("notify", "check") == 0
    _, *checked = list_notices(receiver)
    assert [(notice["type"], notice["data"]["apps"]) for notice in checked] == [
        ("dbctl.overdue", ["shops"]),
        ("dbctl.finding", ["shops"]),
    ]
    assert all("(b)" in notice["data"]["text"] for notice in checked)
    (blog / "shops/b.db").unlink()
    assert run("backup", "create") == 0
    assert run("notify", "check") == 0
    events = ["dbctl.failed", "dbctl.overdue", "dbctl.finding"]
    assert list_events(receiver) == [*events, *["dbctl.recovered"] * 3]


def test_summary_counts_the_instances_of_a_fleet(blog, receiver):
    app = '[apps.shops]\nprofile = "plain"\ndatabases = "shops/*.db"\n'
    configure(blog, f'[notify.webhook]\nurl = "{receiver.url}/hook"\n', app)
    (blog / "shops").mkdir()
    for name in ("a", "b", "c"):
        with closing(sqlite3.connect(blog / f"shops/{name}.db")) as connection:
            connection.execute("create table posts (id integer primary key)")
    (blog / "shops/b.db").write_text("no database, and long enough to be one" * 9)
    assert run("notify", "summary") == 0
    (summary,) = list_notices(receiver)
    assert summary["data"]["severity"] == "warning"
    assert "3 instances" in summary["data"]["text"]
    assert "(b)" in summary["data"]["text"]


def test_summary_has_the_report_in_the_mail(blog, receiver, answer):
    with receive_mail() as server:
        configure(
            blog,
            f'[notify.webhook]\nurl = "{receiver.url}/hook"\n'
            f'[notify.email]\nto = ["a@b.org"]\nhost = "127.0.0.1"\nport = {server.port}\ntls = "none"\n',
        )
        answer("notify", "summary", "--report")
    (message,) = server.messages
    parsed = email.message_from_string(message.content, policy=email.policy.default)
    (part,) = parsed.iter_attachments()
    assert (part.get_filename(), part.get_content_type()) == ("report.html", "text/html")
    assert part.get_content().startswith(SIGNATURE)
    assert "attachment" not in list_notices(receiver)[0]["data"]
