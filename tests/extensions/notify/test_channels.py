"""Channels of notifications against local servers: what they send, and the reasons of their failures."""

from __future__ import annotations

import email
import email.policy
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import get_type_hints

import pytest

from dbctl.config.environment import VariableUnreadableError
from dbctl.extensions.notify import package_check
from dbctl.extensions.notify.channels.apprise import Apprise, Ntfy
from dbctl.extensions.notify.channels.base import SendFailedError, create_channel
from dbctl.extensions.notify.channels.email import Email
from dbctl.extensions.notify.channels.ping import Ping
from dbctl.extensions.notify.channels.webhook import Webhook, sign
from dbctl.extensions.notify.dispatch import Task, run_tasks
from dbctl.extensions.notify.notice import Notice
from dbctl.extensions.notify.section import (
    AppriseConfig,
    EmailConfig,
    NotifyConfig,
    NtfyConfig,
    WebhookConfig,
)
from dbctl.model import Finding, Secret, now
from dbctl.signals import Interrupted
from tests.fault_proxy import CUT, Response
from tests.receivers import LOGIN, PASSWORD, create_contexts, listen, read_json, receive_http, receive_mail

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")

HOSTILE = "a\r\nBcc: eve@example.org\n\x00\x1b[31m\u202e ü \ud800"
NOTICE = Notice(
    event="failed",
    apps=["blog"],
    severity="error",
    headline="backup create failed (unreachable)",
    text="The server does not respond.\nHint: wait.",
    time=now(),
    host="web1",
)


@pytest.fixture
def receiver():
    with receive_http() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def _secrets(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOKEN", "tk_marked")
    monkeypatch.setenv("PASSWORD", PASSWORD)


def test_each_section_below_notify_has_a_channel(tmp_path):
    section = NotifyConfig(
        ntfy=NtfyConfig(url="https://ntfy.sh/topic"),
        webhook=WebhookConfig(url="https://example.org"),
        email=EmailConfig(to=["ann@example.org"], host="mail.example.org"),
        apprise=AppriseConfig(urls=["json://x"]),
    )
    sections = {key for key, kind in get_type_hints(NotifyConfig).items() if "Config" in str(kind)}
    assert set(section.channels) == sections, "add the section to this test"
    created = {name: create_channel(name, channel, tmp_path) for name, channel in section.channels.items()}
    assert {name: channel.name for name, channel in created.items()} == {name: name for name in sections}


def read_reason(send: Callable[[], object]) -> str:
    """Return why a delivery failed."""
    with pytest.raises((SendFailedError, VariableUnreadableError)) as caught:
        send()
    return str(caught.value)


# Pings and webhook -----------------------------------------------------------------------------------------------


def test_ping_sends_the_last_lines_of_a_long_text(receiver):
    Ping(f"{receiver.url}/check").finish(143, "ü" * 20_000 + "end")
    (request,) = receiver.requests
    assert request.path.startswith("/check/143?rid=")
    assert len(request.body) <= 10_000
    assert request.body.decode().endswith("üend")


def test_signature_is_that_of_standard_webhooks():
    key = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert "Base64" in read_reason(lambda: sign(Secret("whsec_ü"), "m", 1, b""))


def test_webhook_signs_what_it_sends(receiver, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "a key")
    finding = Finding("blog/main", "error", "orphans", HOSTILE)
    notice = Notice(
        **{name: getattr(NOTICE, name) for name in NOTICE.__struct_fields__} | {"findings": [finding]}
    )
    section = WebhookConfig(url=f"{receiver.url}/x?token=1", secret_env="TOKEN")
    Webhook(section, tmp_path).send(notice)
    (request,) = receiver.requests
    headers = request.headers
    expected = sign(Secret("a key"), headers["webhook-id"], int(headers["webhook-timestamp"]), request.body)
    assert headers["webhook-signature"] == expected
    assert abs(int(headers["webhook-timestamp"]) - now().timestamp()) < 60
    body = read_json(request)
    assert (request.path, body["type"]) == ("/x?token=1", "dbctl.failed")
    assert body["data"]["findings"][0]["message"] == HOSTILE.replace("\ud800", "?")


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (Response(status=500), "500"),
        (Response(status=403), "403"),
        (Response(status=302, headers={"Location": "http://127.0.0.1:1/other"}), "redirects"),
        (CUT, "interrupted"),
    ],
)
def test_response_of_a_failure_is_the_reason(receiver, tmp_path, response, words):
    receiver.interfere = lambda _request: response
    channel = Webhook(WebhookConfig(url=f"{receiver.url}/secret"), tmp_path)
    reason = read_reason(lambda: channel.send(NOTICE))
    assert words in reason
    assert "/secret" not in reason + channel.place
    assert len(receiver.requests) == 1


def test_certificate_is_verified(tmp_path, monkeypatch):
    context, authority = create_contexts(tmp_path)
    with receive_http(context) as receiver:
        ping = Ping(f"{receiver.url}/check")
        assert "not trusted" in read_reason(ping.begin)
        assert receiver.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        ping.begin()
        other = Ping(receiver.url.replace("127.0.0.1", "localhost"))
        assert "not trusted" in read_reason(other.begin)


def test_certificate_of_a_proxy_is_verified(tmp_path, monkeypatch):
    context, authority = create_contexts(tmp_path)
    with receive_http(context) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        ping = Ping("http://status.example/check")
        assert "not trusted" in read_reason(ping.begin)
        assert proxy.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        ping.begin()
        assert len(proxy.requests) == 1


def test_bytes_that_are_no_http_are_a_reason(tmp_path):
    with listen(b"SSH-2.0-OpenSSH_9.6\r\n\r\n") as port:
        channel = Webhook(WebhookConfig(url=f"http://127.0.0.1:{port}/"), tmp_path)
        assert "HTTP" in read_reason(lambda: channel.send(NOTICE))


def test_slow_channel_does_not_delay_the_others(receiver, tmp_path):
    with listen(b"HTTP/1.1 200 OK\r\nX-A: ", repeat=False) as port:
        slow = Webhook(WebhookConfig(url=f"http://127.0.0.1:{port}/"), tmp_path)
        fast = Webhook(WebhookConfig(url=receiver.url), tmp_path)
        tasks = [Task("slow", "", lambda: slow.send(NOTICE)), Task("fast", "", lambda: fast.send(NOTICE))]
        slow_result, fast_result = run_tasks(tasks, 4)
    assert (slow_result.delivered, fast_result.delivered) == (False, True)


def test_unexpected_error_of_a_channel_is_a_reason_without_its_text():
    def fail() -> None:
        raise RuntimeError("hunter2")

    (result,) = run_tasks([Task("x", "", fail)], 5)
    assert "RuntimeError" in result.reason
    assert "hunter2" not in result.reason


def test_signal_during_the_program_of_a_secret_is_a_reason():
    def stop() -> None:
        raise Interrupted(signal.SIGTERM)

    (result,) = run_tasks([Task("x", "", stop)], 5)
    assert (result.delivered, result.reason) == (False, "SIGTERM")


# E-mail ----------------------------------------------------------------------------------------------------------


def mail_section(server, **options):
    return EmailConfig(to=["ann@example.org"], host="127.0.0.1", port=server.port, **options)


def send_mail(tmp_path, section, notice=NOTICE):
    Email(section, tmp_path).send(notice)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_mail_is_encrypted_and_the_login_checked(tmp_path, monkeypatch, tls):
    context, authority = create_contexts(tmp_path)
    with receive_mail(context, implicit=tls == "implicit", login=True) as server:
        section = mail_section(server, tls=tls, user=LOGIN, password_env="PASSWORD")
        assert "not trusted" in read_reason(lambda: send_mail(tmp_path, section))
        assert server.passwords == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        send_mail(tmp_path, section)
        monkeypatch.setenv("PASSWORD", "wrong")
        reason = read_reason(lambda: send_mail(tmp_path, section))
        assert "login" in reason
        assert "wrong" not in reason
    (message,) = server.messages
    assert message.encrypted
    parsed = email.message_from_string(message.content, policy=email.policy.default)
    assert parsed["Subject"].startswith("blog: backup create failed (unreachable)")
    assert (parsed["To"], parsed["Auto-Submitted"]) == ("ann@example.org", "auto-generated")
    assert parsed.get_content().splitlines() == NOTICE.text.splitlines()


def test_password_is_not_sent_without_tls(tmp_path):
    with receive_mail(login=False) as server:
        section = mail_section(server, user=LOGIN, password_env="PASSWORD")
        assert "STARTTLS" in read_reason(lambda: send_mail(tmp_path, section))
    assert server.messages == []
    assert server.passwords == []


def test_plain_mail_requires_that_tls_is_disabled(tmp_path):
    with receive_mail() as server:
        assert "STARTTLS" in read_reason(lambda: send_mail(tmp_path, mail_section(server)))
        send_mail(tmp_path, mail_section(server, tls="none"))
    (message,) = server.messages
    assert message.recipients == ["ann@example.org"]


def test_hint_about_tls_names_keys_of_the_section(tmp_path):
    with receive_mail() as server:
        reason = read_reason(lambda: send_mail(tmp_path, mail_section(server, tls="implicit")))
    assert reason == "it does not support TLS. Check tls, host and port."
    keys = set(re.findall(r"[a-z]+", reason.partition("Check ")[2])) - {"and"}
    assert keys <= {*EmailConfig.__struct_fields__}


def test_hostile_text_adds_no_header_and_no_recipient(tmp_path):
    values = {name: getattr(NOTICE, name) for name in NOTICE.__struct_fields__}
    notice = Notice(**values | {"apps": [HOSTILE], "headline": HOSTILE, "text": f"{HOSTILE}\n.\nQUIT\n"})
    with receive_mail() as server:
        send_mail(tmp_path, mail_section(server, tls="none"), notice)
    (message,) = server.messages
    parsed = email.message_from_string(message.content, policy=email.policy.default)
    assert message.recipients == ["ann@example.org"]
    assert parsed["Bcc"] is None
    assert "QUIT" in parsed.get_content()


def test_refused_recipient_is_a_reason(tmp_path):
    with receive_mail() as server:
        server.refused = {"eve@example.org"}
        section = EmailConfig(
            to=["ann@example.org", "eve@example.org"], host="127.0.0.1", port=server.port, tls="none"
        )
        assert "1 of 2" in read_reason(lambda: send_mail(tmp_path, section))
        assert len(server.messages) == 1
        server.refused.add("ann@example.org")
        assert "550" in read_reason(lambda: send_mail(tmp_path, section))


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"554 go away\r\n"])
def test_server_that_is_no_mail_server_is_a_reason(tmp_path, greeting):
    with listen(greeting) as port:
        section = EmailConfig(to=["a@b.org"], host="127.0.0.1", port=port)
        assert read_reason(lambda: send_mail(tmp_path, section))


def test_silent_mail_server_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("dbctl.extensions.notify.channels.email.SOCKET_SECONDS", 0.2)
    with listen(b"220 mail.example.org ESMTP\r\n", repeat=False) as port:
        section = EmailConfig(to=["a@b.org"], host="127.0.0.1", port=port, tls="none")
        assert "in time" in read_reason(lambda: send_mail(tmp_path, section))


def test_missing_password_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.delenv("PASSWORD")
    section = EmailConfig(to=["a@b.org"], host="127.0.0.1", port=1, user="u", password_env="PASSWORD")
    assert "PASSWORD" in read_reason(lambda: send_mail(tmp_path, section))
    section = EmailConfig(to=["a@b.org"], host="127.0.0.1", port=1, user="u", password_file="none")
    assert "none" in read_reason(lambda: send_mail(tmp_path, section))


# Apprise ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # its import takes half a second
def test_apprise_delivers_to_each_service(receiver, tmp_path, monkeypatch, capfd):
    address = receiver.url.removeprefix("http://")
    monkeypatch.setenv("SERVICE", f"json://{address}/marked")
    Apprise(AppriseConfig(urls=["${SERVICE}"]), tmp_path).send(NOTICE)
    (request,) = receiver.requests
    assert json.loads(request.body)["title"] == NOTICE.title
    receiver.interfere = lambda _request: Response(status=500)
    channel = Apprise(AppriseConfig(urls=["${SERVICE}", "unknown://marked"]), tmp_path)
    reason = read_reason(lambda: channel.send(NOTICE))
    assert "address 1" in reason
    assert "address 2" in reason
    output = capfd.readouterr()
    assert "marked" not in reason + channel.place + output.out + output.err


def test_address_of_apprise_without_a_scheme_is_not_shown(tmp_path):
    urls = ["mailto:ann:marked@example.org", "tgram//123:marked/5", "${SERVICE}/marked", "json://marked"]
    assert Apprise(AppriseConfig(urls=urls), tmp_path).place == (
        "an address without ://, an address without ://, ${SERVICE}, json://"
    )


@pytest.mark.slow  # see above
def test_ntfy_is_an_address_of_apprise(receiver, tmp_path):
    (tmp_path / "token").write_text("tk_&=/file\n")
    Ntfy(NtfyConfig(url=f"{receiver.url}/Topic-1", token_file="token"), tmp_path).send(NOTICE)
    (request,) = receiver.requests
    assert (request.path, request.headers["authorization"]) == ("/", "Bearer tk_&=/file")
    assert (request.headers["x-priority"], request.headers["x-tags"]) == ("high", "rotating_light")
    assert read_json(request) == {"topic": "Topic-1", "title": NOTICE.title, "message": NOTICE.text}


@pytest.mark.slow  # see above
@pytest.mark.parametrize(
    "response",
    [Response(status=500), Response(status=302, headers={"Location": "http://127.0.0.1:1/other"}), CUT],
)
def test_ntfy_that_does_not_accept_a_message_is_a_reason(receiver, tmp_path, response):
    receiver.interfere = lambda _request: response
    channel = Ntfy(NtfyConfig(url=f"{receiver.url}/secret"), tmp_path)
    assert "did not accept" in read_reason(lambda: channel.send(NOTICE))
    assert len(receiver.requests) == 1


@pytest.mark.slow  # see above
def test_ntfy_verifies_the_certificate(tmp_path, monkeypatch):
    context, authority = create_contexts(tmp_path)
    with receive_http(context) as receiver:
        channel = Ntfy(NtfyConfig(url=f"{receiver.url}/topic", token_env="TOKEN"), tmp_path)
        assert "did not accept" in read_reason(lambda: channel.send(NOTICE))
        assert receiver.requests == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
        channel.send(NOTICE)
    (request,) = receiver.requests
    assert request.headers["authorization"] == "Bearer tk_marked"


@pytest.mark.parametrize(
    ("path", "words"),
    [("https://ntfy.lan/a/topic", "not a topic"), ("http://ntfy.invalid/topic", "unencrypted")],
)
def test_address_of_ntfy_that_cannot_be_used_is_a_reason(tmp_path, monkeypatch, path, words):
    monkeypatch.setenv("PLACE", path)
    section = NtfyConfig(url="${PLACE}", token_env="TOKEN")
    assert words in read_reason(lambda: Ntfy(section, tmp_path).send(NOTICE))


def test_missing_apprise_is_a_reason_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    for channel in (
        Apprise(AppriseConfig(urls=["json://x"]), tmp_path),
        Ntfy(NtfyConfig(url="https://ntfy.lan/topic"), tmp_path),
    ):
        assert "dbctl[apprise]" in read_reason(lambda channel=channel: channel.send(NOTICE))


def test_program_of_a_secret_that_hangs_does_not_delay_the_command(tmp_path):
    (tmp_path / "dbctl.toml").write_text(
        '[secrets.TOPIC]\ncommand = ["sleep", "30"]\n[notify.ntfy]\nurl = "https://ntfy.invalid/${TOPIC}"\n'
        '[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n'
    )
    command = [sys.executable, "-m", "dbctl", "notify", "test", "-o", "json"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=25, check=False)
    (item,) = json.loads(process.stdout)["data"]["items"]
    assert (process.returncode, item["delivered"]) == (10, False)


@pytest.mark.parametrize(
    ("channel", "is_needed"), [('[notify.ntfy]\nurl = "https://ntfy.lan/x"', True), ("", False)]
)
def test_doctor_reports_channels_whose_package_is_missing(tmp_path, monkeypatch, answer, channel, is_needed):
    (tmp_path / "dbctl.toml").write_text(
        f'{channel}\n[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n'
    )
    (tmp_path / "blog.db").touch()
    monkeypatch.chdir(tmp_path)

    def list_codes():
        return {item["code"] for item in answer("doctor", status=None)["data"]["findings"]}

    assert "notify-package-missing" not in list_codes()
    monkeypatch.setattr(package_check, "find_spec", lambda _name: None)
    assert ("notify-package-missing" in list_codes()) == is_needed
