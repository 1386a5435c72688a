"""Vectors of words: asked of real servers of HTTP and real programs, and what becomes of it when they misbehave."""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from msgspec import structs

from dbctl.config import App, Embedder, loader
from dbctl.embedders import http_client, registry
from dbctl.errors import (
    DbctlError,
    EmbedderBusyError,
    EmbedderFailedError,
    EmbedderKeyMissingError,
    EmbedderNotConfiguredError,
    EmbedderPackageMissingError,
    EmbedderRefusedError,
    EmbedderUnreachableError,
    Exit,
)
from dbctl.files import toml
from tests.fault_proxy import CUT, Answer, FaultProxy

KEY = "sk-test-never-shown-4711"
VARIABLES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
)


def app(section: Embedder | None, folder: Path = Path("/nonexistent")) -> App:
    return App(
        name="chat",
        profile="plain",
        protected=False,
        databases={},
        migrations={},
        folder=folder,
        directory=folder,
        embedder=section,
    )


def service(url, kind="openai", **more):
    return Embedder(kind=kind, model="m-1", url=url, key_env="TEST_KEY", timeout="60s", **more)


def embed(section, text="where is the cat"):
    return list(registry.create_embedder(app(section)).embed(text))


def embed_error(section, kind):
    """Return the error of embedding; it must not contain the key."""
    with pytest.raises(DbctlError) as caught:
        embed(section)
    seen: BaseException | None = caught.value
    assert isinstance(seen, kind)
    error = caught.value
    assert KEY not in f"{error} {error.hint} {error.context}"
    while seen is not None:  # what --verbose prints
        assert KEY not in str(seen)
        seen = seen.__cause__ or seen.__context__
    return error


def answer(data, status=200, **headers):
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Answer(
        status=status, body=body, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


def openai(vector):
    return answer({"data": [{"index": 0, "embedding": vector}], "model": "m-1"})


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr(http_client, "FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def running():
    with FaultProxy(0).running() as proxy:
        yield proxy


@pytest.fixture
def server(running):
    running.requests.clear()
    running.interfere = lambda _: openai([0.5, -1, 2e-3])
    return running


# What is asked ---------------------------------------------------------------------------------------------------


def test_openai_request_has_the_key_in_a_header(server):
    section = service(f"{server.url}/v1/", dimensions=3)
    assert embed(section, "Grüße, 猫") == [0.5, -1.0, 2e-3]
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/embeddings")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(request.body) == {
        "model": "m-1",
        "input": "Grüße, 猫",
        "encoding_format": "float",
        "dimensions": 3,
    }


def test_gemini_request_has_the_key_in_a_header(server):
    server.interfere = lambda _: answer({"embedding": {"values": [1, 2.5]}})
    section = service(f"{server.url}/v1beta", "gemini", task="RETRIEVAL_QUERY", dimensions=2)
    assert embed(section, "hi") == [1.0, 2.5]
    (request,) = server.requests
    assert request.path == "/v1beta/models/m-1:embedContent"
    assert request.headers["x-goog-api-key"] == KEY
    assert json.loads(request.body) == {
        "model": "models/m-1",
        "content": {"parts": [{"text": "hi"}]},
        "outputDimensionality": 2,
        "taskType": "RETRIEVAL_QUERY",
    }


def test_without_a_key_none_is_sent(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    embed(structs.replace(service(server.url), key_env=""))
    assert "authorization" not in server.requests[0].headers


def test_a_key_may_stand_in_a_file_or_in_the_app_s_own_settings(server, tmp_path, monkeypatch):
    (tmp_path / "key").write_text(f"{KEY}\r\nsecond line\n")
    section = structs.replace(service(server.url), key_env="", key_file=str(tmp_path / "key"))
    embed(section)
    (tmp_path / ".env").write_text('TEST_KEY="of-the-app"\n')
    own = structs.replace(app(service(server.url)), env_file=tmp_path / ".env")
    registry.create_embedder(own).embed("x")
    monkeypatch.delenv("TEST_KEY")
    (tmp_path / "alone").write_text(f"{KEY}\n")
    monkeypatch.setenv("TEST_KEY_FILE", str(tmp_path / "alone"))
    embed(service(server.url))
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == [f"Bearer {KEY}", "Bearer of-the-app", f"Bearer {KEY}"]


@pytest.mark.parametrize("stored", ["", "two words\u00a0x", "a\x01b"])
def test_what_is_no_key_is_neither_sent_nor_shown(server, monkeypatch, stored):
    monkeypatch.setenv("TEST_KEY", stored)
    error = embed_error(service(server.url), EmbedderKeyMissingError)
    assert error.exit_status == Exit.USAGE
    assert not stored or stored not in f"{error}{error.hint}"
    assert server.requests == []


def test_missing_key_error_contains_its_source(server, monkeypatch, tmp_path):
    monkeypatch.delenv("TEST_KEY")
    assert "neither TEST_KEY nor TEST_KEY_FILE" in str(
        embed_error(service(server.url), EmbedderKeyMissingError)
    )
    section = structs.replace(service(server.url), key_env="", key_file=str(tmp_path / "none"))
    assert "No such file" in str(embed_error(section, EmbedderKeyMissingError))


def test_missing_embedder_error_has_a_hint():
    with pytest.raises(EmbedderNotConfiguredError) as caught:
        registry.create_embedder(app(None), vector_model="text-embedding-004")
    assert caught.value.exit_status == Exit.USAGE
    assert "text-embedding-004" in caught.value.hint
    assert "[apps.chat.embedder]" in caught.value.hint


# What is answered ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>Sign in</html>", "not JSON"),
        (b"", "not JSON"),
        (b'{"data": [{"embedding": [NaN]}]}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        ({"data": []}, "contains no vector"),
        ({"error": {"message": KEY}}, "contains no vector"),
        ([1, 2], "contains no vector"),
        ("text", "contains no vector"),
        ({"data": [{"embedding": []}]}, "empty"),
        ({"data": [{"embedding": "AAAA"}]}, "it is text, not a list of numbers"),
        ({"data": [{"embedding": ["1.5"]}]}, "number 1 is text"),
        ({"data": [{"embedding": [0.5, [1]]}]}, "number 2 is a list"),
        ({"data": [{"embedding": [0.5, None]}]}, "number 2 is null"),
        ({"data": [{"embedding": [True]}]}, "number 1 is true or false"),
        (b'{"data": [{"embedding": [1e999]}]}', "JSON|too large"),
        ({"data": [{"embedding": [1e39]}]}, "too large"),
        ({"data": [{"embedding": [0] * 70_000}]}, "70,000 numbers"),
        (b'{"data": "' + b"x" * (5 << 20) + b'"}', "larger than 4 MiB"),
    ],
)
def test_an_answer_that_is_no_vector_is_none(server, body, reason):
    server.interfere = lambda _: answer(body)
    error = embed_error(service(server.url), EmbedderFailedError)
    assert error.exit_status == Exit.FAILED
    assert any(word in str(error) for word in reason.split("|")), error
    assert len(str(error)) < 400
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "reason"),
    [
        (
            401,
            {"error": {"code": "invalid_api_key", "message": f"Wrong: {KEY}"}},
            EmbedderRefusedError,
            "invalid_api_key",
        ),
        (403, b"", EmbedderRefusedError, "403"),
        (
            400,
            {"error": {"status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}},
            EmbedderRefusedError,
            "API_KEY_INVALID",
        ),
        (
            400,
            {"error": {"code": "context_length_exceeded"}},
            EmbedderFailedError,
            "context_length_exceeded",
        ),
        (
            404,
            {"error": {"code": 404, "status": "NOT_FOUND", "message": "x"}},
            EmbedderFailedError,
            "NOT_FOUND",
        ),
        (404, b"<html>nginx</html>", EmbedderFailedError, "404"),
        (302, b"", EmbedderFailedError, "redirects"),
    ],
)
def test_refusal_error_contains_only_the_code_and_is_not_repeated(server, status, body, kind, reason):
    server.interfere = lambda _: answer(body, status, Location="http://127.0.0.1:1/")
    assert reason in str(embed_error(service(server.url), kind))
    assert len(server.requests) == 1


def test_error_code_with_the_key_is_hidden(server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", "onlyletters")
    server.interfere = lambda _: answer({"error": {"code": "onlyletters_is_wrong"}}, 401)
    with pytest.raises(EmbedderRefusedError) as caught:
        embed(service(server.url))
    assert "onlyletters" not in f"{caught.value} {caught.value.hint}"


def test_no_redirect_takes_the_key_elsewhere(server):
    with FaultProxy(0).running() as other:
        other.interfere = lambda _: openai([1])
        for status in (301, 302, 303, 307, 308):
            server.interfere = lambda _, status=status: answer(
                b"", status, Location=f"{other.url}/embeddings"
            )
            embed_error(service(server.url), EmbedderFailedError)
        assert other.requests == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_overloaded_service_is_retried(server, status):
    server.interfere = lambda request: answer(b"", status) if request.number < 2 else openai([1])
    assert embed(service(server.url)) == [1.0]
    assert len(server.requests) == 3


@pytest.mark.parametrize(("status", "kind"), [(429, EmbedderBusyError), (503, EmbedderUnreachableError)])
def test_what_stays_overloaded_is_given_up_in_time(server, status, kind):
    server.interfere = lambda _: answer(b"", status)
    start = time.monotonic()
    error = embed_error(structs.replace(service(server.url), timeout="1s"), kind)
    assert error.exit_status == (Exit.BUSY if status == 429 else Exit.UNREACHABLE)
    assert time.monotonic() - start < 30
    assert server.requests


def test_a_wait_that_is_longer_than_the_time_left_is_not_begun(server):
    server.interfere = lambda _: answer(b"", 429, Retry_After="3600")
    embed_error(service(server.url), EmbedderBusyError)
    assert len(server.requests) == 1


def test_retry_after_is_respected(server):
    server.interfere = lambda request: (
        answer(b"", 429, Retry_After="1") if not request.number else openai([1])
    )
    start = time.monotonic()
    embed(service(server.url))
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize("response", [CUT, Answer(body=b'{"data": [{"embedding"', headers={}, sent=5)])
def test_interrupted_connection_is_reported(server, response):
    server.interfere = lambda _: response
    assert "interrupted" in str(embed_error(service(server.url), EmbedderUnreachableError))


def test_refused_connection_and_unknown_host_are_reported():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert "connection refused" in str(embed_error(service(url), EmbedderUnreachableError))
    section = service("https://no-such-host.invalid/v1")
    assert embed_error(section, EmbedderUnreachableError).exit_status == Exit.UNREACHABLE


@contextmanager
def raw(talk):
    """Yield the address of a server that runs ``talk`` on its first connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def serve():
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                talk(connection, ended)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


def drip(connection, ended):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not ended.wait(0.05):
        connection.send(b" ")


def drip_headers(connection, ended):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not ended.wait(0.05):
        connection.send(b"X: y\r\n")


def silence(_connection, ended):
    ended.wait(20)


@pytest.mark.parametrize("talk", [silence, drip, drip_headers])
def test_what_takes_too_long_ends_in_time_though_bytes_come(talk):
    with raw(talk) as url:
        start = time.monotonic()
        error = embed_error(structs.replace(service(url), timeout="1s"), EmbedderUnreachableError)
    assert error.exit_status == Exit.UNREACHABLE
    assert time.monotonic() - start < 15


def test_response_without_http_is_reported():
    with raw(lambda connection, _: connection.sendall(b"220 mail.example ESMTP\r\n")) as url:
        assert "does not support HTTP" in str(embed_error(service(url), EmbedderUnreachableError))


# The way there ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """Yield a TLS server and the file of its certificate authority."""
    context, authority = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    with FaultProxy(0, context).running() as proxy:
        proxy.interfere = lambda _: openai([3])
        yield proxy, file


def test_a_certificate_is_trusted_only_by_its_authority(secure, monkeypatch):
    server, authority = secure
    assert "not trusted" in str(embed_error(service(server.url), EmbedderUnreachableError))
    assert server.requests == []
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert embed(service(server.url)) == [3.0]
    other = server.url.replace("127.0.0.1", "localhost")  # the certificate is for another name
    assert "not trusted" in str(embed_error(service(other), EmbedderUnreachableError))


def test_plain_http_on_https_port_is_reported(server):
    section = service(server.url.replace("http://", "https://"))
    assert "TLS" in str(embed_error(section, EmbedderUnreachableError))


def test_proxy_is_used_except_for_loopback(server, monkeypatch):
    with FaultProxy(0).running() as proxy:
        proxy.interfere = lambda _: answer(b"", 403)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("https_proxy", proxy.url)
        assert embed(service(server.url)) == [0.5, -1.0, 2e-3]
        assert proxy.requests == []
        embed_error(structs.replace(service("http://models.invalid"), key_env=""), EmbedderFailedError)
        (request,) = proxy.requests
        assert request.path == "http://models.invalid/embeddings"


# Programs and packages -------------------------------------------------------------------------------------------


def command(*words, timeout="60s"):
    return Embedder(kind="command", command=list(words), timeout=timeout)


def python(code, **more):
    return command(sys.executable, "-c", code, **more)


def test_a_program_gets_the_words_and_writes_a_vector():
    code = "import sys, json; text = sys.stdin.read(); print(json.dumps([len(text), text.count('\"')]))"
    assert embed(python(code), 'say "ä" $(id); `id`') == [19.0, 2.0]


def test_no_shell_reads_the_words_of_a_program(tmp_path):
    section = python("import sys; print([float(len(sys.argv))])")
    section = structs.replace(section, command=[*section.command, f"$(touch {tmp_path}/x)", "; id"])
    assert embed(section) == [3.0]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("", "no output"),
        ("print('<html>')", "not JSON"),
        ("print([float('nan')])", "not JSON"),
        ("print('[]')", "empty"),
        ("print('{}')", "an object"),
        ("print('[[1, 2]]')", "a list"),
        ("import sys; sys.exit('no such model')", "ended with status 1: no such model"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("import sys\nwhile True: sys.stdout.write('1' * 65536)", "more than 4 MiB"),
    ],
)
def test_program_without_vector_is_reported(code, why):
    error = embed_error(python(code), EmbedderFailedError)
    assert why in str(error)
    assert error.exit_status == Exit.FAILED


def test_missing_program_is_reported(tmp_path):
    assert "No such file" in str(embed_error(command(str(tmp_path / "none")), EmbedderUnreachableError))
    (tmp_path / "plain").write_text("text")
    assert "ermission denied" in str(embed_error(command(str(tmp_path / "plain")), EmbedderUnreachableError))


def test_a_program_that_does_not_end_is_ended_with_all_it_started(tmp_path):
    pid = tmp_path / "pid"
    code = f"import subprocess, time; p = subprocess.Popen(['sleep', '100']); open({str(pid)!r}, 'w').write(str(p.pid)); time.sleep(100)"
    start = time.monotonic()
    assert "within 1 s" in str(embed_error(python(code, timeout="1s"), EmbedderUnreachableError))
    assert time.monotonic() - start < 40
    ended = time.monotonic() + 60
    while Path(f"/proc/{pid.read_text()}").exists() and state(pid.read_text()) != "Z":
        assert time.monotonic() < ended
        time.sleep(0.02)


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def test_a_program_is_not_waited_for_by_what_it_leaves_running():
    code = "import subprocess; subprocess.Popen(['sleep', '100']); print('[7]')"
    start = time.monotonic()
    assert embed(python(code)) == [7.0]
    assert time.monotonic() - start < 50


@pytest.mark.parametrize("package", ["fastembed", "sentence-transformers"])
def test_missing_package_error_contains_the_install_command(package):
    error = embed_error(Embedder(kind="local", model="m", package=package), EmbedderPackageMissingError)
    assert f"pip install {package}" in error.hint
    assert error.exit_status == Exit.USAGE


# The configuration -----------------------------------------------------------------------------------------------


def find_problems(tmp_path, text):
    file = tmp_path / "dbctl.toml"
    file.write_text(f'[apps.chat]\nprofile = "plain"\n[apps.chat.embedder]\n{text}\n')
    try:
        section = loader.parse(file).apps["chat"].embedder
    except toml.TomlError as error:
        return {
            problem.key.removeprefix("apps.chat.embedder").lstrip("."): problem.reason
            for problem in error.problems
        }
    return section


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ('kind = "word2vec"', "kind", "not one of"),
        ('kind = "gemini"', "model", "requires it"),
        ('kind = "gemini"\nmodel = "m"\npackage = "fastembed"', "package", "does not accept it"),
        ('kind = "openai"\nmodel = "m"\ntask = "x"', "task", "does not accept it"),
        ('kind = "openai"\nmodel = "m"\nurl = "ftp://x"', "url", "https://"),
        ('kind = "openai"\nmodel = "m"\nurl = "https://x/?key=1"', "url", "without a login"),
        ('kind = "openai"\nmodel = "m"\nurl = "https://u:p@x/"', "url", "without a login"),
        ('kind = "openai"\nmodel = "m"\nurl = "https://x:70000"', "url", "65535"),
        ('kind = "openai"\nmodel = "m"\nurl = "http://far/v1"\nkey_env = "K"', "url", "unencrypted"),
        ('kind = "openai"\nmodel = "m"\nkey_env = "sk-123"', "key_env", "not the key itself"),
        (
            'kind = "openai"\nmodel = "m"\nkey_env = "K"\nkey_file = "k"',
            "key_file",
            "either key_env or key_file",
        ),
        ('kind = "openai"\nmodel = "m"\nkey = "sk-123"', "key", "unknown key"),
        ('kind = "openai"\nmodel = "m"\ntimeout = "0s"', "timeout", "not a duration"),
        ('kind = "openai"\nmodel = "m"\ntimeout = "soon"', "timeout", "not a duration"),
        ('kind = "openai"\nmodel = "m"\ndimensions = 0', "dimensions", "0"),
        ('kind = "command"', "command", "requires it"),
        ('kind = "command"\ncommand = "embed --x"', "command", "must be a list"),
        ('kind = "command"\ncommand = [""]', "command", "program is missing"),
        ('kind = "local"\nmodel = "m"', "package", "requires it"),
        ('kind = "local"\nmodel = "m"\npackage = "torch"', "package", "not one of"),
    ],
)
def test_configuration_error_contains_its_key(tmp_path, text, key, why):
    reasons = find_problems(tmp_path, text)
    assert key in reasons, reasons
    assert why in reasons[key]
    assert "sk-123" not in reasons[key] or key == "key"


def test_the_usual_key_goes_to_the_usual_service_alone(tmp_path):
    usual = find_problems(tmp_path, 'kind = "gemini"\nmodel = "text-embedding-004"')
    assert (usual.url, usual.key_env) == (
        "https://generativelanguage.googleapis.com/v1beta",
        "GEMINI_API_KEY",
    )
    other = find_problems(tmp_path, 'kind = "openai"\nmodel = "nomic"\nurl = "http://ollama:11434/v1"')
    assert (other.url, other.key_env) == ("http://ollama:11434/v1", "")


def test_files_and_programs_are_found_from_the_configuration(tmp_path):
    file = find_problems(tmp_path, 'kind = "openai"\nmodel = "m"\nkey_file = "secret/key"')
    assert file.key_file == os.fspath(tmp_path / "secret/key")
    own = find_problems(tmp_path, 'kind = "command"\ncommand = ["./embed", "./x", "y"]')
    assert own.command == [os.fspath(tmp_path / "embed"), "./x", "y"]
    assert find_problems(tmp_path, 'kind = "command"\ncommand = ["embed", "a/b"]').command == ["embed", "a/b"]
