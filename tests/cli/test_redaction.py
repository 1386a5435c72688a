"""No command shows a secret of an address, of a hook or of a channel, wherever the configuration has it."""

from __future__ import annotations

import pytest

from dbctl.cli.main import main
from dbctl.config.secrets import MASK, list_secrets, redact_message, redact_text, redact_value

MARKER = "hunter2"
LOGINS = (
    "ann:hunter2@",
    "ann:a%40hunter2@",
    "us%40er:%2Fhunter2%23@",
    "ann:a@hunter2@",
    ":hunter2@",
    "ann:a:hunter2@",
    "ann:hunter2&x=1@",
)
OPTIONS = (
    "sslpassword",
    "password",
    "passwd",
    "token",
    "key",
    "secret",
    "api_key",
    "access-token",
    "PASSWORD",
    "auth",
)
ADDRESSES = [
    *(f"{scheme}://{login}127.0.0.1:1/d" for scheme in ("postgresql", "mysql") for login in LOGINS),
    *(f"postgresql://ann@127.0.0.1:1/d?sslmode=disable&{option}=hunter2" for option in OPTIONS),
    "mysql://ann@127.0.0.1:1/d?password=a%26hunter2&charset=utf8mb4",
    "nosuch://ann:hunter2@127.0.0.1:1/d",
    "postgresql://ann:hunter2@127.0.0.1:x/d",
    "postgresql://ann:a/hunter2@127.0.0.1:1/d",
    "lancedb+s3://ann:hunter2@bucket/p?token=hunter2",
    "s3://bucket/p?secret=hunter2",
]
#: One of each form; every address is in a sentence of the test below.
SAMPLES = [ADDRESSES[1], ADDRESSES[3], ADDRESSES[8], ADDRESSES[14], *ADDRESSES[-6:]]
CONFIGURATION = """[apps.blog]
profile = "plain"
databases = {address}
[apps.blog.backup]
repository = {repository}
scratch = {address}
[apps.blog.replicas.main]
url = {address}
[apps.blog.hooks.backup]
before = [["curl", "-H", "Authorization: Bearer hunter2", "-H", "X-Api-Key: hunter2", "https://ann:hunter2@h/x?token=hunter2"]]
after = [["sh", "-c", "exit 1", "--password", "hunter2", "PGPASSWORD=hunter2", "--header=Cookie: a=hunter2", "-u", "ann:hunter2"]]
[apps.blog.notify]
ping = "http://127.0.0.1:1/hunter2/{{command}}?key=hunter2"
[apps.blog.notify.ntfy]
url = "http://127.0.0.1:1"
topic = "topic"
[apps.blog.notify.webhook]
url = "http://127.0.0.1:1/hunter2?token=hunter2"
[apps.blog.notify.apprise]
urls = ["json://ann:hunter2@127.0.0.1:1/hunter2"]
"""
COMMANDS = [
    "config show --defaults",
    "config explain",
    "config validate",
    "apps list",
    "apps show",
    "apps check",
    "status",
    "doctor",
    "stats tables",
    "data query select",
    "data set t 1 a=b",
    "integrity check",
    "migrate status",
    "backup create",
    "backup list",
    "backup status",
    "backup drill",
    "backup prune --yes",
    "restore preview latest",
    "schedule cron",
    "schedule systemd",
    "schedule kubernetes",
    "schedule compose",
    "schedule status",
    "notify test",
    "notify check",
    "support --to bundle.zip",
    "report",
    "metrics",
    "runs list",
    "runs show 1",
    "audit list",
]
#: Commands to which an address is passed.
ADDRESS_COMMANDS = [
    "init {}",
    "init plain --url main={}",
    "profiles draft {}",
    "data diff {}",
    "transfer plan --to {}",
    "transfer run --to {} --yes",
    "transfer upgrade --to {}",
    "restore apply latest --to {} --yes",
    "stats tables --url {}",
    "backup create --repository {}",
    "backup copy --to {}",
    "runs list",
    "runs show 1",
]


@pytest.fixture
def blog(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", str(tmp_path / "state"))
    return tmp_path


FORMS = (("-o", "table"), ("-o", "json", "-v", "--log-file", "log"))


def run_all(blog, capsys, commands, forms=FORMS):
    """Run commands in several forms; return the outputs and files that contain the marker."""
    leaks = []
    for line in commands:
        for options in forms:
            main([*line.split(), "--timeout", "0", *options])
            shown = capsys.readouterr()
            leaks += [(line, part[:300]) for part in (shown.out + shown.err).splitlines() if MARKER in part]
    for path in blog.rglob("*"):
        is_own = path.is_file() and path.name not in ("dbctl.toml", "plain-password", "plain-url")
        if is_own and MARKER.encode() in path.read_bytes():
            leaks.append(("file", str(path.relative_to(blog))))
    return leaks


@pytest.mark.slow
@pytest.mark.parametrize("address", SAMPLES)
def test_secrets_of_the_configuration_are_never_shown(blog, capsys, address):
    repository = "s3://key:hunter2@bucket/p?token=hunter2" if "mysql" in address else "backups"
    quoted = {"address": repr(address), "repository": repr(repository)}
    (blog / "dbctl.toml").write_text(CONFIGURATION.format(**quoted))
    # the first address with both forms, each other one with the form that writes more
    assert run_all(blog, capsys, COMMANDS, FORMS if address == SAMPLES[0] else FORMS[1:]) == []


@pytest.mark.slow
@pytest.mark.parametrize("address", SAMPLES)
def test_secrets_of_arguments_are_never_shown(blog, capsys, address):
    (blog / "dbctl.toml").write_text('[apps.blog]\nprofile = "plain"\ndatabases = "app.db"\n')
    main(["migrate", "status"])
    assert run_all(blog, capsys, [line.format(address) for line in ADDRESS_COMMANDS]) == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_address_is_redacted_in_a_sentence(address):
    assert MARKER not in redact_text(address)
    assert MASK in redact_text(address)
    for text in (address, f"cannot open {address}: refused", f"--to={address} failed", f'"{address}"'):
        masked = text
        for secret in list_secrets(address):
            masked = masked.replace(secret, MASK)
        assert MARKER not in masked
        assert MARKER not in redact_message(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://h/x?page=2&sort=name",
        "postgresql://ann@h/d?sslmode=require",
        "postgresql://ann:${PW}@h/d?sslpassword=${SSL}",
        "column users.token: the value is NULL",
        "List them with: dbctl users list --login ann@example.org",
        "key 12 of table keys: 3 rows",
        "dbctl: no user 'ann@example.org' in blog/main",
    ],
)
def test_harmless_text_is_unchanged(text):
    assert redact_message(text) == text


def test_words_of_a_program_are_redacted():
    words = ["curl", "-H", "Authorization: Basic hunter2", "--token", "hunter2", "-u", "a:hunter2", "--x=1"]
    assert redact_value(words) == [
        "curl",
        "-H",
        f"Authorization: {MASK}",
        "--token",
        MASK,
        "-u",
        f"a:{MASK}",
        "--x=1",
    ]
