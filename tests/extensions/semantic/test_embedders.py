"""Embedding of texts by HTTP services, programs and packages, and their failures."""

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

from dbctl.config import environment, loader
from dbctl.config.model import App
from dbctl.errors.base import DbctlError, Exit
from dbctl.extensions.semantic import http_client
from dbctl.extensions.semantic.embedders import create_embedder
from dbctl.extensions.semantic.errors import (
    EmbedderBusyError,
    EmbedderFailedError,
    EmbedderKeyMissingError,
    EmbedderNotConfiguredError,
    EmbedderPackageMissingError,
    EmbedderRefusedError,
    EmbedderUnreachableError,
)
from dbctl.extensions.semantic.section import Embedder, find_section, read_key
from dbctl.files import toml
from tests.fault_proxy import CUT, FaultProxy, Response

KEY = "sk-test-never-shown-4711"
NETWORK_VARIABLES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
)


def create_app(section: Embedder | None, folder: Path = Path("/nonexistent")) -> App:
    return App(
        name="chat",
        profile="plain",
        protected=False,
        databases={},
        migrations={},
        folder=folder,
        directory=folder,
        extension_sections={"embedder": section} if section else {},
    )


def create_section(url, kind="openai", **more):
    return Embedder(kind=kind, model="m-1", url=url, key_env="TEST_KEY", timeout="60s", **more)


def embed(section, text="where is the cat"):
    return list(create_embedder(create_app(section)).embed(text))


def catch_error(section, kind):
    """Return the error of an embedding; assert that it does not contain the key."""
    with pytest.raises(DbctlError) as caught:
        embed(section)
    chained: BaseException | None = caught.value
    assert isinstance(chained, kind)
    error = caught.value
    assert KEY not in f"{error} {error.hint} {error.context}"
    while chained is not None:  # what --verbose prints
        assert KEY not in str(chained)
        chained = chained.__cause__ or chained.__context__
    return error


def create_response(data, status=200, **headers):
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Response(
        status=status, body=body, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


def create_openai_response(vector):
    return create_response({"data": [{"index": 0, "embedding": vector}], "model": "m-1"})


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr(http_client, "FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def module_proxy():
    with FaultProxy(0).running() as proxy:
        yield proxy


@pytest.fixture
def server(module_proxy):
    module_proxy.requests.clear()
    module_proxy.interfere = lambda _: create_openai_response([0.5, -1, 2e-3])
    return module_proxy


# Requests --------------------------------------------------------------------------------------------------------


def test_openai_request_has_the_key_in_a_header(server):
    section = create_section(f"{server.url}/v1/", dimensions=3)
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
    server.interfere = lambda _: create_response({"embedding": {"values": [1, 2.5]}})
    section = create_section(f"{server.url}/v1beta", "gemini", task="RETRIEVAL_QUERY", dimensions=2)
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


def test_without_configured_key_no_header_is_sent(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    embed(structs.replace(create_section(server.url), key_env=""))
    assert "authorization" not in server.requests[0].headers


def test_key_is_read_from_file_env_file_or_file_variable(server, tmp_path, monkeypatch):
    (tmp_path / "key").write_text(f"{KEY}\r\nsecond line\n")
    section = structs.replace(create_section(server.url), key_env="", key_file=str(tmp_path / "key"))
    embed(section)
    (tmp_path / ".env").write_text('TEST_KEY="of-the-app"\n')
    own = structs.replace(create_app(create_section(server.url)), env_file=tmp_path / ".env")
    create_embedder(own).embed("x")
    monkeypatch.delenv("TEST_KEY")
    (tmp_path / "alone").write_text(f"{KEY}\n")
    monkeypatch.setenv("TEST_KEY_FILE", str(tmp_path / "alone"))
    embed(create_section(server.url))
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == [f"Bearer {KEY}", "Bearer of-the-app", f"Bearer {KEY}"]


@pytest.mark.parametrize("stored", ["", "two words\u00a0x", "a\x01b"])
def test_invalid_key_is_neither_sent_nor_shown(server, monkeypatch, stored):
    monkeypatch.setenv("TEST_KEY", stored)
    error = catch_error(create_section(server.url), EmbedderKeyMissingError)
    assert error.exit_status == Exit.USAGE
    assert not stored or stored not in f"{error}{error.hint}"
    assert server.requests == []


def test_missing_key_error_contains_its_source(server, monkeypatch, tmp_path):
    monkeypatch.delenv("TEST_KEY")
    assert "no variable TEST_KEY" in str(catch_error(create_section(server.url), EmbedderKeyMissingError))
    section = structs.replace(create_section(server.url), key_env="", key_file=str(tmp_path / "none"))
    assert "No such file" in str(catch_error(section, EmbedderKeyMissingError))


def test_missing_embedder_error_has_a_hint():
    with pytest.raises(EmbedderNotConfiguredError) as caught:
        create_embedder(create_app(None), vector_model="text-embedding-004")
    assert caught.value.exit_status == Exit.USAGE
    assert "text-embedding-004" in caught.value.hint
    assert "[apps.chat.embedder]" in caught.value.hint


# Responses -------------------------------------------------------------------------------------------------------


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
def test_response_without_valid_vector_is_reported(server, body, reason):
    server.interfere = lambda _: create_response(body)
    error = catch_error(create_section(server.url), EmbedderFailedError)
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
        (400, {"error": {"code": "context_length_exceeded"}}, EmbedderFailedError, "context_length_exceeded"),
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
def test_refused_request_is_not_repeated_and_error_has_only_its_code(server, status, body, kind, reason):
    server.interfere = lambda _: create_response(body, status, Location="http://127.0.0.1:1/")
    assert reason in str(catch_error(create_section(server.url), kind))
    assert len(server.requests) == 1


def test_error_code_that_contains_the_key_is_hidden(server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", "onlyletters")
    server.interfere = lambda _: create_response({"error": {"code": "onlyletters_is_wrong"}}, 401)
    with pytest.raises(EmbedderRefusedError) as caught:
        embed(create_section(server.url))
    assert "onlyletters" not in f"{caught.value} {caught.value.hint}"


def test_redirects_are_not_followed_with_the_key(server):
    with FaultProxy(0).running() as other:
        other.interfere = lambda _: create_openai_response([1])
        for status in (301, 302, 303, 307, 308):
            server.interfere = lambda _, status=status: create_response(
                b"", status, Location=f"{other.url}/embeddings"
            )
            catch_error(create_section(server.url), EmbedderFailedError)
        assert other.requests == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_overloaded_service_is_retried(server, status):
    server.interfere = lambda request: (
        create_response(b"", status) if request.number < 2 else create_openai_response([1])
    )
    assert embed(create_section(server.url)) == [1.0]
    assert len(server.requests) == 3


@pytest.mark.parametrize(("status", "kind"), [(429, EmbedderBusyError), (503, EmbedderUnreachableError)])
def test_overloaded_service_is_abandoned_at_the_timeout(server, status, kind):
    server.interfere = lambda _: create_response(b"", status)
    start = time.monotonic()
    error = catch_error(structs.replace(create_section(server.url), timeout="1s"), kind)
    assert error.exit_status == (Exit.BUSY if status == 429 else Exit.UNREACHABLE)
    assert time.monotonic() - start < 30
    assert server.requests


def test_retry_after_longer_than_the_timeout_fails_immediately(server):
    server.interfere = lambda _: create_response(b"", 429, Retry_After="3600")
    catch_error(create_section(server.url), EmbedderBusyError)
    assert len(server.requests) == 1


def test_retry_after_is_respected(server):
    server.interfere = lambda request: (
        create_response(b"", 429, Retry_After="1") if not request.number else create_openai_response([1])
    )
    start = time.monotonic()
    embed(create_section(server.url))
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize("response", [CUT, Response(body=b'{"data": [{"embedding"', headers={}, sent=5)])
def test_interrupted_connection_is_reported(server, response):
    server.interfere = lambda _: response
    assert "interrupted" in str(catch_error(create_section(server.url), EmbedderUnreachableError))


def test_refused_connection_and_unknown_host_are_reported():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert "connection refused" in str(catch_error(create_section(url), EmbedderUnreachableError))
    section = create_section("https://no-such-host.invalid/v1")
    assert catch_error(section, EmbedderUnreachableError).exit_status == Exit.UNREACHABLE


@contextmanager
def serve_once(respond):
    """Yield the URL of a server that runs ``respond`` on its first connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                respond(connection, ended)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


def send_body_slowly(connection, ended):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not ended.wait(0.05):
        connection.send(b" ")


def send_headers_slowly(connection, ended):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not ended.wait(0.05):
        connection.send(b"X: y\r\n")


def send_nothing(_connection, ended):
    ended.wait(20)


@pytest.mark.parametrize("respond", [send_nothing, send_body_slowly, send_headers_slowly])
def test_timeout_applies_to_the_whole_request_despite_progress(respond):
    with serve_once(respond) as url:
        start = time.monotonic()
        error = catch_error(structs.replace(create_section(url), timeout="1s"), EmbedderUnreachableError)
    assert error.exit_status == Exit.UNREACHABLE
    assert time.monotonic() - start < 15


def test_server_without_http_is_reported():
    with serve_once(lambda connection, _: connection.sendall(b"220 mail.example ESMTP\r\n")) as url:
        assert "does not support HTTP" in str(catch_error(create_section(url), EmbedderUnreachableError))


# Connections -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory):
    """Yield a TLS server and the file of its certificate authority."""
    context, authority = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    with FaultProxy(0, context).running() as proxy:
        proxy.interfere = lambda _: create_openai_response([3])
        yield proxy, file


def test_certificate_requires_trusted_authority_and_matching_name(tls_server, monkeypatch):
    server, authority = tls_server
    assert "not trusted" in str(catch_error(create_section(server.url), EmbedderUnreachableError))
    assert server.requests == []
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert embed(create_section(server.url)) == [3.0]
    other = server.url.replace("127.0.0.1", "localhost")  # the certificate is for another name
    assert "not trusted" in str(catch_error(create_section(other), EmbedderUnreachableError))


def test_plain_http_on_https_port_is_reported(server):
    section = create_section(server.url.replace("http://", "https://"))
    assert "TLS" in str(catch_error(section, EmbedderUnreachableError))


def test_proxy_is_used_except_for_loopback(server, monkeypatch):
    with FaultProxy(0).running() as proxy:
        proxy.interfere = lambda _: create_response(b"", 403)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("https_proxy", proxy.url)
        assert embed(create_section(server.url)) == [0.5, -1.0, 2e-3]
        assert proxy.requests == []
        catch_error(structs.replace(create_section("http://models.invalid"), key_env=""), EmbedderFailedError)
        (request,) = proxy.requests
        assert request.path == "http://models.invalid/embeddings"


# Programs and packages -------------------------------------------------------------------------------------------


def command_section(*words, timeout="60s"):
    return Embedder(kind="command", command=list(words), timeout=timeout)


def python_section(code, **more):
    return command_section(sys.executable, "-c", code, **more)


def test_program_reads_the_text_and_writes_a_vector():
    code = "import sys, json; text = sys.stdin.read(); print(json.dumps([len(text), text.count('\"')]))"
    assert embed(python_section(code), 'say "ä" $(id); `id`') == [19.0, 2.0]


def test_program_arguments_are_not_interpreted_by_a_shell(tmp_path):
    section = python_section("import sys; print([float(len(sys.argv))])")
    section = structs.replace(section, command=[*section.command, f"$(touch {tmp_path}/x)", "; id"])
    assert embed(section) == [3.0]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("code", "reason"),
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
def test_program_without_vector_is_reported(code, reason):
    error = catch_error(python_section(code), EmbedderFailedError)
    assert reason in str(error)
    assert error.exit_status == Exit.FAILED


def test_missing_program_is_reported(tmp_path):
    assert "No such file" in str(
        catch_error(command_section(str(tmp_path / "none")), EmbedderUnreachableError)
    )
    (tmp_path / "plain").write_text("text")
    assert "ermission denied" in str(
        catch_error(command_section(str(tmp_path / "plain")), EmbedderUnreachableError)
    )


def test_program_is_killed_at_the_timeout_with_its_child_processes(tmp_path):
    pid = tmp_path / "pid"
    code = f"import subprocess, time; p = subprocess.Popen(['sleep', '100']); open({str(pid)!r}, 'w').write(str(p.pid)); time.sleep(100)"
    start = time.monotonic()
    assert "within 1 s" in str(catch_error(python_section(code, timeout="1s"), EmbedderUnreachableError))
    assert time.monotonic() - start < 40
    ended = time.monotonic() + 60
    while Path(f"/proc/{pid.read_text()}").exists() and read_process_state(pid.read_text()) != "Z":
        assert time.monotonic() < ended
        time.sleep(0.02)


def read_process_state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def test_background_process_of_program_does_not_delay_the_result():
    code = "import subprocess; subprocess.Popen(['sleep', '100']); print('[7]')"
    start = time.monotonic()
    assert embed(python_section(code)) == [7.0]
    assert time.monotonic() - start < 50


@pytest.mark.parametrize("package", ["fastembed", "sentence-transformers"])
def test_missing_package_error_contains_the_install_command(package):
    error = catch_error(Embedder(kind="local", model="m", package=package), EmbedderPackageMissingError)
    assert f"pip install {package}" in error.hint
    assert error.exit_status == Exit.USAGE


def test_key_of_a_program_is_a_secret(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho the-key\n")
    program.chmod(0o755)
    file = tmp_path / "dbctl.toml"
    file.write_text(
        '[apps.chat]\nprofile = "plain"\n[apps.chat.embedder]\nkind = "openai"\nmodel = "m"\nkey_env = "KEY"\n'
        '[secrets.KEY]\ncommand = ["./program"]\n'
    )
    app = loader.read(file).apps["chat"]
    assert read_key(app).reveal() == "the-key"
    program.write_text("#!/bin/sh\necho the-key; exit 1\n")
    environment.use_secrets({}, tmp_path)  # forgets the value that was read
    app = loader.read(file).apps["chat"]
    with pytest.raises(EmbedderKeyMissingError) as caught:
        read_key(app)
    assert "the-key" not in f"{caught.value}{caught.value.hint}"


# The configuration -----------------------------------------------------------------------------------------------


def find_problems(tmp_path, text):
    file = tmp_path / "dbctl.toml"
    file.write_text(f'[apps.chat]\nprofile = "plain"\n[apps.chat.embedder]\n{text}\n')
    try:
        section = find_section(loader.parse(file).apps["chat"])
    except toml.TomlError as error:
        return {
            problem.key.removeprefix("apps.chat.embedder").lstrip("."): problem.reason
            for problem in error.problems
        }
    return section


@pytest.mark.parametrize(
    ("text", "key", "reason"),
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
def test_invalid_section_is_reported_with_its_key(tmp_path, text, key, reason):
    reasons = find_problems(tmp_path, text)
    assert key in reasons, reasons
    assert reason in reasons[key]
    assert "sk-123" not in reasons[key] or key == "key"


def test_default_key_variable_applies_only_to_the_default_url(tmp_path):
    default = find_problems(tmp_path, 'kind = "gemini"\nmodel = "text-embedding-004"')
    assert (default.url, default.key_env) == (
        "https://generativelanguage.googleapis.com/v1beta",
        "GEMINI_API_KEY",
    )
    other = find_problems(tmp_path, 'kind = "openai"\nmodel = "nomic"\nurl = "http://ollama:11434/v1"')
    assert (other.url, other.key_env) == ("http://ollama:11434/v1", "")


def test_paths_are_relative_to_the_configuration_file(tmp_path):
    file = find_problems(tmp_path, 'kind = "openai"\nmodel = "m"\nkey_file = "secret/key"')
    assert file.key_file == os.fspath(tmp_path / "secret/key")
    own = find_problems(tmp_path, 'kind = "command"\ncommand = ["./embed", "./x", "y"]')
    assert own.command == [os.fspath(tmp_path / "embed"), "./x", "y"]
    assert find_problems(tmp_path, 'kind = "command"\ncommand = ["embed", "a/b"]').command == ["embed", "a/b"]
