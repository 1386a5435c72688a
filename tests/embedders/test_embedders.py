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
    EmbedderPackageMissingError,
    EmbedderRefusedError,
    EmbedderUnreachableError,
    EmbedderUnsetError,
    Exit,
)
from dbctl.files import toml
from tests.fault_proxy import CUT, Answer, Meddler

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


def app(told: Embedder | None, folder: Path = Path("/nonexistent")) -> App:
    return App(
        name="chat",
        profile="plain",
        protected=False,
        databases={},
        migrations={},
        folder=folder,
        directory=folder,
        embedder=told,
    )


def service(url, kind="openai", **more):
    return Embedder(kind=kind, model="m-1", url=url, key_env="TEST_KEY", timeout="60s", **more)


def embedded(told, text="where is the cat"):
    return list(registry.of(app(told)).embed(text))


def broken(told, kind):
    """Return the failure that embedding ends in; the key stands nowhere in it."""
    with pytest.raises(DbctlError) as caught:
        embedded(told)
    seen: BaseException | None = caught.value
    assert isinstance(seen, kind)
    error = caught.value
    assert KEY not in f"{error} {error.hint} {error.facts}"
    while seen is not None:  # what --verbose prints
        assert KEY not in str(seen)
        seen = seen.__cause__ or seen.__context__
    return error


def answer(told, status=200, **headers):
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
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
    with Meddler(0).running() as made:
        yield made


@pytest.fixture
def server(running):
    running.asked.clear()
    running.meddle = lambda _: openai([0.5, -1, 2e-3])
    return running


# What is asked ---------------------------------------------------------------------------------------------------


def test_openai_s_form_is_asked_with_the_key_in_a_header(server):
    told = service(f"{server.url}/v1/", dimensions=3)
    assert embedded(told, "Grüße, 猫") == [0.5, -1.0, 2e-3]
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/v1/embeddings")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(asked.body) == {
        "model": "m-1",
        "input": "Grüße, 猫",
        "encoding_format": "float",
        "dimensions": 3,
    }


def test_gemini_s_form_is_asked_with_the_key_in_a_header(server):
    server.meddle = lambda _: answer({"embedding": {"values": [1, 2.5]}})
    told = service(f"{server.url}/v1beta", "gemini", task="RETRIEVAL_QUERY", dimensions=2)
    assert embedded(told, "hi") == [1.0, 2.5]
    (asked,) = server.asked
    assert asked.path == "/v1beta/models/m-1:embedContent"
    assert asked.headers["x-goog-api-key"] == KEY
    assert json.loads(asked.body) == {
        "model": "models/m-1",
        "content": {"parts": [{"text": "hi"}]},
        "outputDimensionality": 2,
        "taskType": "RETRIEVAL_QUERY",
    }


def test_without_a_key_none_is_sent(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    embedded(structs.replace(service(server.url), key_env=""))
    assert "authorization" not in server.asked[0].headers


def test_a_key_may_stand_in_a_file_or_in_the_app_s_own_settings(server, tmp_path, monkeypatch):
    (tmp_path / "key").write_text(f"{KEY}\r\nsecond line\n")
    told = structs.replace(service(server.url), key_env="", key_file=str(tmp_path / "key"))
    embedded(told)
    (tmp_path / ".env").write_text('TEST_KEY="of-the-app"\n')
    own = structs.replace(app(service(server.url)), env_file=tmp_path / ".env")
    registry.of(own).embed("x")
    monkeypatch.delenv("TEST_KEY")
    (tmp_path / "alone").write_text(f"{KEY}\n")
    monkeypatch.setenv("TEST_KEY_FILE", str(tmp_path / "alone"))
    embedded(service(server.url))
    sent = [asked.headers["authorization"] for asked in server.asked]
    assert sent == [f"Bearer {KEY}", "Bearer of-the-app", f"Bearer {KEY}"]


@pytest.mark.parametrize("held", ["", "two words\u00a0x", "a\x01b"])
def test_what_is_no_key_is_neither_sent_nor_shown(server, monkeypatch, held):
    monkeypatch.setenv("TEST_KEY", held)
    error = broken(service(server.url), EmbedderKeyMissingError)
    assert error.exit_status == Exit.USAGE
    assert not held or held not in f"{error}{error.hint}"
    assert server.asked == []


def test_a_key_that_is_not_there_is_told_by_its_place(server, monkeypatch, tmp_path):
    monkeypatch.delenv("TEST_KEY")
    assert "neither TEST_KEY nor TEST_KEY_FILE" in str(broken(service(server.url), EmbedderKeyMissingError))
    told = structs.replace(service(server.url), key_env="", key_file=str(tmp_path / "none"))
    assert "No such file" in str(broken(told, EmbedderKeyMissingError))


def test_an_app_without_an_embedder_says_what_to_write():
    with pytest.raises(EmbedderUnsetError) as caught:
        registry.of(app(None), model="text-embedding-004")
    assert caught.value.exit_status == Exit.USAGE
    assert "text-embedding-004" in caught.value.hint
    assert "[apps.chat.embedder]" in caught.value.hint


# What is answered ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (b"<html>Sign in</html>", "no JSON"),
        (b"", "no JSON"),
        (b'{"data": [{"embedding": [NaN]}]}', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        ({"data": []}, "holds no vector"),
        ({"error": {"message": KEY}}, "holds no vector"),
        ([1, 2], "holds no vector"),
        ("text", "holds no vector"),
        ({"data": [{"embedding": []}]}, "empty"),
        ({"data": [{"embedding": "AAAA"}]}, "no list of numbers but text"),
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
def test_an_answer_that_is_no_vector_is_none(server, told, why):
    server.meddle = lambda _: answer(told)
    error = broken(service(server.url), EmbedderFailedError)
    assert error.exit_status == Exit.FAILED
    assert any(word in str(error) for word in why.split("|")), error
    assert len(str(error)) < 400
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "told", "kind", "why"),
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
        (302, b"", EmbedderFailedError, "sends elsewhere"),
    ],
)
def test_a_refusal_is_told_by_its_code_alone_and_not_tried_again(server, status, told, kind, why):
    server.meddle = lambda _: answer(told, status, Location="http://127.0.0.1:1/")
    assert why in str(broken(service(server.url), kind))
    assert len(server.asked) == 1


def test_a_code_that_repeats_the_key_is_not_told(server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", "onlyletters")
    server.meddle = lambda _: answer({"error": {"code": "onlyletters_is_wrong"}}, 401)
    with pytest.raises(EmbedderRefusedError) as caught:
        embedded(service(server.url))
    assert "onlyletters" not in f"{caught.value} {caught.value.hint}"


def test_no_redirect_takes_the_key_elsewhere(server):
    with Meddler(0).running() as other:
        other.meddle = lambda _: openai([1])
        for status in (301, 302, 303, 307, 308):
            server.meddle = lambda _, status=status: answer(b"", status, Location=f"{other.url}/embeddings")
            broken(service(server.url), EmbedderFailedError)
        assert other.asked == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_is_overloaded_is_asked_again(server, status):
    server.meddle = lambda asked: answer(b"", status) if asked.number < 2 else openai([1])
    assert embedded(service(server.url)) == [1.0]
    assert len(server.asked) == 3


@pytest.mark.parametrize(("status", "kind"), [(429, EmbedderBusyError), (503, EmbedderUnreachableError)])
def test_what_stays_overloaded_is_given_up_in_time(server, status, kind):
    server.meddle = lambda _: answer(b"", status)
    begun = time.monotonic()
    error = broken(structs.replace(service(server.url), timeout="1s"), kind)
    assert error.exit_status == (Exit.BUSY if status == 429 else Exit.UNREACHABLE)
    assert time.monotonic() - begun < 30
    assert server.asked


def test_a_wait_that_is_longer_than_the_time_left_is_not_begun(server):
    server.meddle = lambda _: answer(b"", 429, Retry_After="3600")
    broken(service(server.url), EmbedderBusyError)
    assert len(server.asked) == 1


def test_a_wait_that_is_asked_for_is_kept(server):
    server.meddle = lambda asked: answer(b"", 429, Retry_After="1") if not asked.number else openai([1])
    begun = time.monotonic()
    embedded(service(server.url))
    assert time.monotonic() - begun >= 1


@pytest.mark.parametrize("given", [CUT, Answer(body=b'{"data": [{"embedding"', headers={}, sent=5)])
def test_a_connection_that_is_cut_off_is_told(server, given):
    server.meddle = lambda _: given
    assert "cut off" in str(broken(service(server.url), EmbedderUnreachableError))


def test_nobody_there_and_no_such_host_are_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert "nobody listens" in str(broken(service(url), EmbedderUnreachableError))
    told = service("https://no-such-host.invalid/v1")
    assert broken(told, EmbedderUnreachableError).exit_status == Exit.UNREACHABLE


@contextmanager
def raw(talk):
    """Give the address of a server that says what ``talk`` does on its first connection."""
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
        begun = time.monotonic()
        error = broken(structs.replace(service(url), timeout="1s"), EmbedderUnreachableError)
    assert error.exit_status == Exit.UNREACHABLE
    assert time.monotonic() - begun < 15


def test_what_does_not_speak_http_is_told():
    with raw(lambda connection, _: connection.sendall(b"220 mail.example ESMTP\r\n")) as url:
        assert "does not speak HTTP" in str(broken(service(url), EmbedderUnreachableError))


# The way there ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """Give a server that speaks TLS, and a file with the authority that signs for it."""
    context, authority = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    with Meddler(0, context).running() as made:
        made.meddle = lambda _: openai([3])
        yield made, file


def test_a_certificate_is_trusted_only_by_its_authority(secure, monkeypatch):
    server, authority = secure
    assert "not trusted" in str(broken(service(server.url), EmbedderUnreachableError))
    assert server.asked == []
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert embedded(service(server.url)) == [3.0]
    other = server.url.replace("127.0.0.1", "localhost")  # the certificate is for another name
    assert "not trusted" in str(broken(service(other), EmbedderUnreachableError))


def test_plain_http_behind_https_is_told(server):
    told = service(server.url.replace("http://", "https://"))
    assert "TLS" in str(broken(told, EmbedderUnreachableError))


def test_a_proxy_is_gone_through_but_for_what_is_here(server, monkeypatch):
    with Meddler(0).running() as proxy:
        proxy.meddle = lambda _: answer(b"", 403)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("https_proxy", proxy.url)
        assert embedded(service(server.url)) == [0.5, -1.0, 2e-3]
        assert proxy.asked == []
        broken(structs.replace(service("http://models.invalid"), key_env=""), EmbedderFailedError)
        (asked,) = proxy.asked
        assert asked.path == "http://models.invalid/embeddings"


# Programs and packages -------------------------------------------------------------------------------------------


def command(*words, timeout="60s"):
    return Embedder(kind="command", command=list(words), timeout=timeout)


def python(code, **more):
    return command(sys.executable, "-c", code, **more)


def test_a_program_gets_the_words_and_writes_a_vector():
    code = "import sys, json; text = sys.stdin.read(); print(json.dumps([len(text), text.count('\"')]))"
    assert embedded(python(code), 'say "ä" $(id); `id`') == [19.0, 2.0]


def test_no_shell_reads_the_words_of_a_program(tmp_path):
    told = python("import sys; print([float(len(sys.argv))])")
    told = structs.replace(told, command=[*told.command, f"$(touch {tmp_path}/x)", "; id"])
    assert embedded(told) == [3.0]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("", "wrote nothing"),
        ("print('<html>')", "no JSON"),
        ("print([float('nan')])", "no JSON"),
        ("print('[]')", "empty"),
        ("print('{}')", "an object"),
        ("print('[[1, 2]]')", "a list"),
        ("import sys; sys.exit('no such model')", "ended with 1: no such model"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("import sys\nwhile True: sys.stdout.write('1' * 65536)", "more than 4 MiB"),
    ],
)
def test_a_program_that_writes_no_vector_is_told(code, why):
    error = broken(python(code), EmbedderFailedError)
    assert why in str(error)
    assert error.exit_status == Exit.FAILED


def test_a_program_that_is_not_there_is_told(tmp_path):
    assert "No such file" in str(broken(command(str(tmp_path / "none")), EmbedderUnreachableError))
    (tmp_path / "plain").write_text("text")
    assert "ermission denied" in str(broken(command(str(tmp_path / "plain")), EmbedderUnreachableError))


def test_a_program_that_does_not_end_is_ended_with_all_it_started(tmp_path):
    pid = tmp_path / "pid"
    code = f"import subprocess, time; p = subprocess.Popen(['sleep', '100']); open({str(pid)!r}, 'w').write(str(p.pid)); time.sleep(100)"
    begun = time.monotonic()
    assert "within 1 s" in str(broken(python(code, timeout="1s"), EmbedderUnreachableError))
    assert time.monotonic() - begun < 40
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
    begun = time.monotonic()
    assert embedded(python(code)) == [7.0]
    assert time.monotonic() - begun < 50


@pytest.mark.parametrize("package", ["fastembed", "sentence-transformers"])
def test_a_package_that_is_missing_is_told_with_what_installs_it(package):
    error = broken(Embedder(kind="local", model="m", package=package), EmbedderPackageMissingError)
    assert f"pip install {package}" in error.hint
    assert error.exit_status == Exit.USAGE


# The configuration -----------------------------------------------------------------------------------------------


def mistakes(tmp_path, text):
    file = tmp_path / "dbctl.toml"
    file.write_text(f'[apps.chat]\nprofile = "plain"\n[apps.chat.embedder]\n{text}\n')
    try:
        found = loader.parse(file).apps["chat"].embedder
    except toml.TomlError as error:
        return {one.key.removeprefix("apps.chat.embedder").lstrip("."): one.reason for one in error.mistakes}
    return found


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ('kind = "word2vec"', "kind", "none of"),
        ('kind = "gemini"', "model", "wants it"),
        ('kind = "gemini"\nmodel = "m"\npackage = "fastembed"', "package", "takes none"),
        ('kind = "openai"\nmodel = "m"\ntask = "x"', "task", "takes none"),
        ('kind = "openai"\nmodel = "m"\nurl = "ftp://x"', "url", "https://"),
        ('kind = "openai"\nmodel = "m"\nurl = "https://x/?key=1"', "url", "without a login"),
        ('kind = "openai"\nmodel = "m"\nurl = "https://u:p@x/"', "url", "without a login"),
        ('kind = "openai"\nmodel = "m"\nurl = "https://x:70000"', "url", "65535"),
        ('kind = "openai"\nmodel = "m"\nurl = "http://far/v1"\nkey_env = "K"', "url", "plain sight"),
        ('kind = "openai"\nmodel = "m"\nkey_env = "sk-123"', "key_env", "not the key itself"),
        ('kind = "openai"\nmodel = "m"\nkey_env = "K"\nkey_file = "k"', "key_file", "not from both"),
        ('kind = "openai"\nmodel = "m"\nkey = "sk-123"', "key", "unknown key"),
        ('kind = "openai"\nmodel = "m"\ntimeout = "0s"', "timeout", "length of time"),
        ('kind = "openai"\nmodel = "m"\ntimeout = "soon"', "timeout", "length of time"),
        ('kind = "openai"\nmodel = "m"\ndimensions = 0', "dimensions", "0"),
        ('kind = "command"', "command", "wants it"),
        ('kind = "command"\ncommand = "embed --x"', "command", "no list"),
        ('kind = "command"\ncommand = [""]', "command", "names no program"),
        ('kind = "local"\nmodel = "m"', "package", "wants it"),
        ('kind = "local"\nmodel = "m"\npackage = "torch"', "package", "none of"),
    ],
)
def test_a_mistake_in_the_configuration_is_told_by_its_key(tmp_path, text, key, why):
    found = mistakes(tmp_path, text)
    assert key in found, found
    assert why in found[key]
    assert "sk-123" not in found[key] or key == "key"


def test_the_usual_key_goes_to_the_usual_service_alone(tmp_path):
    usual = mistakes(tmp_path, 'kind = "gemini"\nmodel = "text-embedding-004"')
    assert (usual.url, usual.key_env) == (
        "https://generativelanguage.googleapis.com/v1beta",
        "GEMINI_API_KEY",
    )
    other = mistakes(tmp_path, 'kind = "openai"\nmodel = "nomic"\nurl = "http://ollama:11434/v1"')
    assert (other.url, other.key_env) == ("http://ollama:11434/v1", "")


def test_files_and_programs_are_found_from_the_configuration(tmp_path):
    file = mistakes(tmp_path, 'kind = "openai"\nmodel = "m"\nkey_file = "secret/key"')
    assert file.key_file == os.fspath(tmp_path / "secret/key")
    own = mistakes(tmp_path, 'kind = "command"\ncommand = ["./embed", "./x", "y"]')
    assert own.command == [os.fspath(tmp_path / "embed"), "./x", "y"]
    assert mistakes(tmp_path, 'kind = "command"\ncommand = ["embed", "a/b"]').command == ["embed", "a/b"]
