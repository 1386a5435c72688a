"""Summaries without the extension: they are sent, without a page."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.extensions.absence import Remainder
from tests.receivers import receive_mail


@pytest.fixture(scope="module")
def remainder(tmp_path_factory):
    return Remainder(tmp_path_factory.mktemp("remainder") / "path", "reports")


def test_summary_is_sent_without_the_page(tmp_path, remainder):
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection:
        connection.execute("create table posts (id integer primary key)")
    with receive_mail() as server:
        (tmp_path / "dbctl.toml").write_text(
            f'[notify.email]\nto = ["a@b.org"]\nhost = "127.0.0.1"\nport = {server.port}\ntls = "none"\n'
            '[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n'
        )
        sent = remainder.run("notify", "summary", "--report", cwd=tmp_path)
    assert sent.returncode == 0
    assert "the extension reports is not installed; nothing is attached" in sent.stderr
    (message,) = server.messages
    assert "blog: 1 database" in message.content
    assert "attachment" not in message.content
