"""The effect of each change of the applications with a sample, as in the tests of commands: compared with rows and files."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from dbctl.cli.main import main
from dbctl.extensions.demo.builder import build_sample
from tests import servers
from tests.cli.test_effects import Rows, compare_effect
from tests.cli.test_reference import is_change
from tests.databases import PostgreSQL

#: Further applications: the options of their sample, and lines. ``{TABLE}`` is the key of a row.
OTHER_APPS: dict[str, tuple[dict[str, int], list[str]]] = {
    "yaai": (
        {"chats": 6, "messages": 60},
        [
            "data set tool_calls {tool_calls} output=late",
            "data delete tool_calls {tool_calls} --yes",
            "data delete messages {messages} --yes",
            "data delete messages --filter role=nobody --yes",
            "settings set theme light",
            "settings reset theme",
            "sessions cleanup",
            "search index build",
            "search index drop messages",
            "maintain analyze",
            "maintain optimize",
            "backup create",
        ],
    ),
    "promptvault": (
        {"users": 6, "prompts": 30},
        [
            "users create zoe@example.org --name Zoe --role USER --generate",
            "users ensure zoe@example.org --name Zoe --generate",
            "users update demo@promptvault.example --name Demo",
            "users set-role demo@promptvault.example ADMIN",
            "users set-role demo@promptvault.example USER",
            "users set-password demo@promptvault.example --generate",
            "users delete demo@promptvault.example --yes",
            "users delete demo@promptvault.example --transfer-to admin@promptvault.example --yes",
            "users import people.csv",
            "settings set allowRegistration false",
            "data set Rating {Rating} value=3",
            "data delete Rating {Rating} --yes",
            "data delete Prompt --filter title=nothing --yes",
            "search index build",
            "maintain analyze",
            "backup create",
        ],
    ),
    "chat-lancedb": (
        {"users": 6, "chats": 8, "messages": 60},
        [
            "users import users.csv",
            "users update {users} --set name=Zoe",
            "users delete {users} --yes",
            "data set attachments {attachments} name=late",
            "data delete attachments {attachments} --yes",
            "data delete messages {messages} --yes",
            "search vectors store {messages} near.json --yes",
            "maintain optimize",
            "backup create",
        ],
    ),
}


#: Lines of WaQtor by variant; of the documented one, those whose tables differ from the deployed ones. Its database is on a server; the
#: former one, ``legacy``, is a file.
WAQTOR_LINES = {
    "deployed": [
        "users create mia@waqtor.example --name Mia --role user --generate",
        "users ensure mia@waqtor.example --name Mia --generate",
        "users ensure user@waqtor.example --name Zoe",
        "users update user@waqtor.example --name Zoe",
        "users set-role user@waqtor.example viewer",
        "users set-role user@waqtor.example user",
        "users set-password user@waqtor.example --generate",
        "users deactivate user@waqtor.example",
        "users activate user@waqtor.example",
        "users delete user@waqtor.example --yes",
        "users delete user@waqtor.example --transfer-to admin@waqtor.example --delete-duplicates --yes",
        "users import people.csv",
        "sessions cleanup --yes",
        "sessions cleanup --rule sent-messages --yes",
        "sessions cleanup --rule stale-whatsapp-sessions --yes",
        "sessions cleanup --rule stuck-campaigns --yes",
        "data add campaigns user_id=user@waqtor.example session_id={whatsapp_sessions} name=Spring message_template=Hi",
        "data set campaigns {campaigns} name=Spring",
        "data set campaigns {campaigns} status=completed --any-state",
        "data set campaigns --filter status=running status=paused --yes",
        "data delete campaigns {campaigns} --yes",
        "data delete campaigns --filter status=running --yes",
        "data set messages --filter status=failed status=pending --yes",
        "data set messages --filter status=pending --null message_id --yes",
        "data delete messages {messages} --yes",
        "data delete messages --filter status=sent --yes",
        "data delete messages --filter status=failed --filter status=sent --yes",
        "data set recipients {recipients} name=Mia",
        "data delete recipients {recipients} --yes",
        "data add groups user_id=user@waqtor.example name=Choir",
        "data set groups {groups} description=late",
        "data delete groups {groups} --yes",
        "data import groups groups.csv",
        "data delete recipient_groups {recipient_groups} --yes",
        "data delete whatsapp_sessions {whatsapp_sessions} --yes",
        "data add campaigns name=New message=Hi recipients=[] --db legacy",
        "data set campaigns {legacy_campaigns} status=cancelled --db legacy",
        "data delete campaigns {legacy_campaigns} --db legacy --yes",
        "data delete message_logs --filter phone=491700001 --db legacy --yes",
        "maintain analyze",
        "maintain vacuum",
        "backup create",
        "sessions revoke user@waqtor.example --yes",
        "data add recipients user_id=user@waqtor.example name=Mia phone=491700099",
        "data set whatsapp_sessions {whatsapp_sessions} is_active=false",
        "data set api_keys {api_keys} is_active=false",
        "data delete access_codes {access_codes} --yes",
        "data delete campaign_recipients {campaign_recipients} --yes",
        "data delete refresh_tokens --filter is_revoked=true --yes",
    ],
    "document": [
        "users create mia@waqtor.example --name Mia --role user --generate",
        "users delete user@waqtor.example --yes",
        "users delete user@waqtor.example --transfer-to admin@waqtor.example --delete-duplicates --yes",
        "sessions cleanup --yes",
        "sessions cleanup --rule stale-whatsapp-sessions --yes",
        "data delete whatsapp_sessions {whatsapp_sessions} --yes",
        "data add recipients user_id=user@waqtor.example name=Mia phone_number=491700099",
        "data set whatsapp_sessions {whatsapp_sessions} status=disconnected --any-state",
    ],
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create the samples of the further applications, and input files."""
    folder = tmp_path_factory.mktemp("samples")
    for profile, (counts, _) in OTHER_APPS.items():
        build_sample(folder / profile, profile=profile, counts=counts)
        (folder / profile / "people.csv").write_text("email,name,password\nmia@example.org,Mia,long enough\n")
        (folder / profile / "users.csv").write_text("id,email,name\nUSER-MIA,mia@example.org,Mia\n")
        (folder / profile / "near.json").write_text(json.dumps([1.0, *[0.0] * 767]))
    return folder


@pytest.mark.parametrize(
    ("profile", "line"), [(profile, line) for profile, (_, lines) in OTHER_APPS.items() for line in lines]
)
def test_effect_and_closing_line_of_other_applications_are_what_happened(
    profile: str,
    line: str,
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert is_change(line)
    folder = tmp_path / profile
    shutil.copytree(samples / profile, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DBCTL_STATE", str(folder / "state"))
    keys = {name: str(next(iter(rows))[0]) for name, rows in Rows(folder).tables.items() if rows}
    main(["init", profile, ".", "--quiet"])
    compare_effect(line, line.format_map(keys).split(), folder, capsys)


@pytest.fixture(scope="module")
def waqtor(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """Create the sample of a variant; yield its folder and the name of its database, both to be copied."""
    folder = tmp_path_factory.mktemp(request.param)
    with servers.postgresql_database(encoding="UTF8") as url:
        build_sample(
            folder,
            profile="waqtor",
            counts={"users": 6, "messages": 60},
            urls={"main": url},
            variant=request.param,
            at=datetime.now(UTC) - timedelta(days=40),
        )
        with closing(sqlite3.connect(folder / "runtime/server/db/waqtor.db")) as legacy, legacy:
            legacy.execute("insert into campaigns (name, message, recipients) values ('Old', 'Hi', '[]')")
            legacy.execute("insert into message_logs (phone, message) values ('491700001', 'Hi')")
        PostgreSQL(url).run(
            "update campaigns set status = 'running', sent_count = 0, completed_at = null where status = 'failed'"
        )
        (folder / "people.csv").write_text("email,name,password\nmia@example.org,Mia,long enough\n")
        yield folder, url.path


# One test for each variant: pytest creates the sample of a fixture again for each line if variant and line are one parameter.
@pytest.mark.slow
@pytest.mark.parametrize("waqtor", ["deployed"], indirect=True)
@pytest.mark.parametrize("line", WAQTOR_LINES["deployed"])
def test_effect_and_closing_line_of_waqtor_are_what_happened(
    line: str,
    waqtor: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compare_effect_of_waqtor(line, waqtor, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("waqtor", ["document"], indirect=True)
@pytest.mark.parametrize("line", WAQTOR_LINES["document"])
def test_effect_and_closing_line_of_documented_waqtor_are_what_happened(
    line: str,
    waqtor: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compare_effect_of_waqtor(line, waqtor, tmp_path, monkeypatch, capsys)


def compare_effect_of_waqtor(
    line: str,
    sample: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert is_change(line)
    folder, (source, template) = tmp_path / "waqtor", sample
    shutil.copytree(source, folder)
    monkeypatch.setenv("DBCTL_STATE", str(folder / "state"))
    monkeypatch.chdir(folder)
    with servers.postgresql_database(encoding="UTF8", template=template) as url:
        database = PostgreSQL(url)
        keys = {name: str(min(rows)[0]) for name, rows in Rows(folder, database).tables.items() if rows}
        (folder / "groups.csv").write_text(f"id,user_id,name\n{uuid4()},{keys['users']},Choir\n")
        assert main(["init", "waqtor", ".", "--url", f"main={database.url}", "--quiet"]) == 0
        effect, difference = compare_effect(line, line.format_map(keys).split(), folder, capsys, database)
    # Unlike other applications, it has neither vectors nor search indexes nor a log, so every row is read.
    written = sum(difference.deleted.values()) + sum(difference.changed.values())
    counts = effect["counts"] if effect else {}
    if rows_deleted := counts.get("rows deleted or cleared"):
        assert rows_deleted + counts.get("rows transferred", 0) == written
    elif line.startswith(("sessions cleanup", "data delete")):
        assert effect.get("count", 0) == written
