"""A nightly backup fails, and works again: every place where an admin looks reports it, with the reason."""

from __future__ import annotations

import email
import email.policy
import sqlite3
from contextlib import closing

import pytest

from dbctl.cli.main import main
from tests.fault_proxy import Response
from tests.receivers import read_json, receive_http, receive_mail

CONFIGURATION = """\
[notify]
ping = "{url}/ping/{{app}}-{{command}}"
[notify.webhook]
url = "{url}/hook"
[notify.email]
to = ["admin@example.org"]
host = "127.0.0.1"
port = {port}
tls = "none"
[apps.blog]
profile = "plain"
databases = "blog.db"
[apps.blog.backup]
repository = "backups"
max_age = "26h"
"""
#: The command of the crontab, and the exit code and the error code without the file of the database.
NIGHTLY = ("backup", "create", "--quiet")
EXIT_CODE, ERROR_CODE = 10, "database-missing"


@pytest.fixture
def receiver():
    with receive_http() as receiver:
        yield receiver


@pytest.fixture
def mail():
    with receive_mail() as server:
        yield server


@pytest.fixture
def blog(tmp_path, monkeypatch, receiver, mail):
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection:
        connection.executescript("create table posts (id integer primary key, title text);")
    (tmp_path / "dbctl.toml").write_text(CONFIGURATION.format(url=receiver.url, port=mail.port))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    return tmp_path


def read_metric(capsys, name):
    capsys.readouterr()
    assert main(["metrics"]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith(f"{name}{{") and "backup create" in line
    ]


def list_pings(receiver):
    return [
        request.path.partition("?")[0] for request in receiver.requests if request.path.startswith("/ping")
    ]


def list_events(receiver):
    return [read_json(request)["type"] for request in receiver.requests if request.path.startswith("/hook")]


def list_subjects(mail):
    messages = (
        email.message_from_string(message.content, policy=email.policy.default) for message in mail.messages
    )
    return [message["subject"] for message in messages]


@pytest.mark.needs_extension("metrics", "notify", "reports")
def test_failed_backup_is_reported_everywhere_until_the_next_success(blog, receiver, mail, answer, capsys):
    assert main(NIGHTLY) == 0
    (blog / "blog.db").rename(blog / "moved.db")
    assert main(NIGHTLY) == EXIT_CODE
    assert main(NIGHTLY) == EXIT_CODE

    pings = [f"/ping/blog-backup-create/{end}" for end in ("start", "0", "start", "10", "start", "10")]
    assert list_pings(receiver) == pings
    assert list_events(receiver) == ["dbctl.failed"]
    (subject,) = list_subjects(mail)
    assert "blog" in subject
    assert ERROR_CODE in mail.messages[0].content
    runs = answer("runs", "list", "--failed")["data"]["items"]
    assert [(run["command"], run["exit_code"], run["error"]["code"]) for run in runs] == [
        ("backup create", EXIT_CODE, ERROR_CODE)
    ] * 2
    warnings = answer("status", "--check", status=EXIT_CODE)["warnings"]
    assert any("failed 2 times in a row" in warning and ERROR_CODE in warning for warning in warnings)
    assert read_metric(capsys, "dbctl_run_last_exit_code") == [EXIT_CODE]
    failed_since = read_metric(capsys, "dbctl_run_last_success_timestamp_seconds")
    assert main(["report", "--html", "report.html", "--quiet"]) == 0
    failures = answer("report")["data"]["failures"]
    assert [(run["command"], run["error"]) for run in failures] == [("backup create", ERROR_CODE)] * 2
    assert ERROR_CODE in (blog / "report.html").read_text()

    (blog / "moved.db").rename(blog / "blog.db")
    assert main(NIGHTLY) == 0
    assert list_events(receiver) == ["dbctl.failed", "dbctl.recovered"]
    assert len(list_subjects(mail)) == 2
    assert list_pings(receiver)[-1] == "/ping/blog-backup-create/0"
    assert answer("status", "--check")["warnings"] == []
    assert read_metric(capsys, "dbctl_run_last_exit_code") == [0]
    assert read_metric(capsys, "dbctl_run_last_success_timestamp_seconds") > failed_since


@pytest.mark.needs_extension("notify")
def test_failure_is_reported_although_a_channel_fails(blog, receiver, mail, answer):
    receiver.interfere = lambda request: (
        Response(status=500) if request.path.startswith("/hook") else Response()
    )
    (blog / "blog.db").rename(blog / "moved.db")
    assert main(NIGHTLY) == EXIT_CODE
    (subject,) = list_subjects(mail)
    (run,) = answer("runs", "list")["data"]["items"]
    assert any("500" in warning for warning in run["warnings"])
    assert (run["exit_code"], run["error"]["code"]) == (EXIT_CODE, ERROR_CODE)
    del receiver.requests[:]
    receiver.interfere = lambda _request: Response()
    answer("notify", "check", status=None)
    assert "dbctl.failed" in list_events(receiver)
    assert list_subjects(mail).count(subject) == 1  # it was delivered before
