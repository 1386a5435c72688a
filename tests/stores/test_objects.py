"""The store contract for storage with the S3 protocol, and failures of network and server."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.config.storage import Address
from dbctl.errors.backup import (
    RepositoryFailedError,
    StorageFailedError,
    StorageIncompatibleError,
    StorageKeysMissingError,
    StorageSettingInvalidError,
)
from dbctl.errors.base import DbctlError, Exit
from dbctl.files.atomic import hash_blocks
from dbctl.stores.base import FolderState
from dbctl.stores.objects import client, connection
from dbctl.stores.registry import open_store
from tests import servers, storage
from tests.conformance.buckets import BucketContract, BucketLocation
from tests.conformance.stores import FIRST_FOLDER, LARGE_SIZE, SECOND_FOLDER, create_backup
from tests.fault_proxy import CUT, FaultProxy, Response, error_response


@pytest.fixture
def place(monkeypatch, tmp_path):
    return BucketLocation(storage.use_new_bucket(monkeypatch, tmp_path))


class TestS3(BucketContract):
    # moto compares and writes in two steps; the other servers run this test.
    test_concurrent_writers_have_one_winner = None

    @pytest.fixture
    def place(self, place):
        return place


@pytest.fixture
def proxy(place, monkeypatch):
    """Start a proxy between dbctl and the storage."""
    with FaultProxy(storage.port()).running() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def assert_fails(action, *, secret=storage.SECRET):
    """Assert that ``action`` fails without printing a key; return the error."""
    with pytest.raises(DbctlError) as caught:
        action()
    error = caught.value
    text = f"{error} {error.hint} {error.context}"
    assert secret not in text
    assert storage.KEY not in text
    return error


# Rejected requests ------------------------------------------------------------------------------------------------

REPEATS = f"<AWSAccessKeyId>{storage.KEY}</AWSAccessKeyId><StringToSign>{storage.SECRET}</StringToSign>"


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "AccessDenied", "the key lacks a permission"),
        (403, "InvalidAccessKeyId", "does not recognise the access key"),
        (403, "SignatureDoesNotMatch", "the secret key does not belong"),
        (403, "RequestTimeTooSkewed", "clock of this machine"),
        (400, "ExpiredToken", "has expired"),
        (400, "AuthorizationHeaderMalformed", "another region"),
        (301, "PermanentRedirect", "another region"),
        (404, "NoSuchBucket", "bucket not found"),
        (400, "InvalidBucketName", "does not accept this bucket name"),
        (403, "SomethingNew", "rejects the key (403 (SomethingNew))"),
        (400, "SomethingNew", "responds with 400 (SomethingNew)"),
        (501, "NotImplemented", "responds with 501 (NotImplemented)"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_server_error_is_explained_without_its_text(place, proxy, status, code, reason, method):
    store = place.open()
    proxy.interfere = lambda request: (
        error_response(status, code, REPEATS) if request.method == method else None
    )
    error = assert_fails(lambda: create_backup(store, a=b"1"))
    assert (error.code, error.exit_status) == ("storage-failed", Exit.UNREACHABLE)
    assert reason in str(error)
    assert "No." not in str(error)
    assert error.hint
    assert place.bucket.keys() == []


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("http://127.0.0.1:{free}", "refuses connections"),
        ("http://no-such-host.invalid", "host name cannot be resolved"),
        ("https://127.0.0.1:{port}", "does not support TLS"),
        ("http://127.0.0.1:{silent}", "did not respond in time"),
    ],
)
def test_unreachable_endpoint_is_reported_soon(place, monkeypatch, endpoint, reason):
    import socket

    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        sockets = [socket.socket() for _ in range(4)]  # then the kernel accepts no further connection
        for client_socket in sockets:
            client_socket.setblocking(False)
            client_socket.connect_ex(listener.getsockname())
        url = endpoint.format(free=servers.free_port(), port=storage.port(), silent=listener.getsockname()[1])
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        error = assert_fails(lambda: place.open().list_folders())
        for client_socket in sockets:
            client_socket.close()
    assert (error.code, error.exit_status) == ("storage-failed", Exit.UNREACHABLE)
    assert reason in str(error)


def test_certificate_requires_trusted_authority(place, monkeypatch, tmp_path):
    import ssl

    import trustme

    context, authority = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "none.pem").write_text("nothing")
    with FaultProxy(storage.port(), context).running() as secure:
        monkeypatch.setenv("AWS_ENDPOINT_URL", secure.url)
        error = assert_fails(lambda: place.open().list_folders())
        assert "certificate of its host is not trusted" in str(error)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        assert place.open().list_folders() == {}
        for wrong in ("none.pem", "nowhere.pem"):
            monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / wrong))
            assert assert_fails(place.open).exit_status == Exit.USAGE


def test_silent_server_is_reported_soon(place, proxy):
    end = threading.Event()

    def block_request(_request):
        end.wait(30)

    proxy.interfere = block_request
    start = time.monotonic()
    error = assert_fails(lambda: place.open().list_folders())
    assert "did not respond in time" in str(error)
    assert time.monotonic() - start < 20
    end.set()


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_REGION", "eu west"), ("AWS_ACCESS_KEY_ID", "a\nb"), ("AWS_SESSION_TOKEN", "ä\r\nx: y")],
)
def test_invalid_setting_is_refused_before_request(place, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert assert_fails(place.open).exit_status == Exit.USAGE


def test_missing_driver_is_reported(place, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "obstore"]:
        monkeypatch.setitem(sys.modules, name, None)
    error = assert_fails(place.open)
    assert (error.code, error.exit_status) == ("driver-missing", Exit.USAGE)
    assert "pip install 'dbctl[s3]'" in error.hint


@pytest.mark.parametrize(
    "address",
    [
        "s3://",
        "s3:///prefix",
        "s3://Bucket",
        "s3://a",
        "s3://127.0.0.1/x",
        "s3://a..b",
        "s3://bucket/../x",
        "s3://bucket/a//b",
        "s3://bucket/a b",
        "s3://bucket/\x1b[31m",
        "s3://KEY:made-up@bucket/x",
    ],
)
def test_invalid_address_is_refused_before_request(place, proxy, address):
    error = assert_fails(lambda: open_store(address, "app", folder=Path()), secret="made-up")
    assert (type(error), error.exit_status) == (StorageSettingInvalidError, Exit.USAGE)
    assert proxy.requests == []


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:9000", "ftp://host", "http:///", "http://h:99999", "http://u:p@h o/", "https://ä"]
)
def test_invalid_endpoint_is_refused_and_not_printed(place, monkeypatch, endpoint):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    error = assert_fails(place.open, secret=endpoint)
    assert (type(error), error.exit_status) == (StorageSettingInvalidError, Exit.USAGE)


@pytest.mark.parametrize(
    "missing",
    [["AWS_ACCESS_KEY_ID"], ["AWS_SECRET_ACCESS_KEY"], ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]],
)
def test_missing_keys_are_refused_before_request(place, proxy, monkeypatch, missing):
    for name in missing:
        monkeypatch.delenv(name)
    error = assert_fails(place.open)
    assert (type(error), error.exit_status) == (StorageKeysMissingError, Exit.USAGE)
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (Response(body=b"<html>Welcome</html>"), "does not respond like S3"),
        (Response(status=404, body=b"<html>nothing here</html>"), "responds with 404"),
        (Response(status=302, headers={"Location": "/elsewhere"}), "another region"),
        (Response(body=b"<ListBucketResult><Contents><Key>" + b"x" * 10_000), "does not respond like S3"),
        (Response(body=b""), "does not respond like S3"),
    ],
)
def test_other_server_is_not_mistaken_for_empty_storage(place, proxy, response, reason):
    proxy.interfere = lambda _request: response
    for action in (lambda: place.open().read_manifest(FIRST_FOLDER), lambda: place.open().list_folders()):
        error = assert_fails(action)
        assert (error.code, error.exit_status) == ("storage-failed", Exit.UNREACHABLE)
    assert reason in str(error)


# Configuration and listing ----------------------------------------------------------------------------------------


def test_shared_profile_files_are_used(place, proxy, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = D\naws_secret_access_key = x\n"
        "[away]\naws_access_key_id = AWAY\naws_secret_access_key = y\naws_session_token = lent\n"
    )
    (tmp_path / "config").write_text(
        f"[profile away]\nregion = eu-north-1\nservices = there\n"
        f"[services there]\ns3 =\n  endpoint_url = {proxy.url}\n[default]\nendpoint_url = {proxy.url}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for address, profile, signed in (
        (f"s3://{place.bucket.name}", "", "Credential=D/"),
        (f"s3://{place.bucket.name}", "away", "Credential=AWAY/"),
        (f"s3://away@{place.bucket.name}", "default", "Credential=AWAY/"),
    ):
        monkeypatch.setenv("AWS_PROFILE", profile)
        store = open_store(address, "app", folder=Path())
        assert store.list_folders() == {}
        headers = proxy.requests[-1].headers
        assert signed in headers["authorization"]
        assert ("eu-north-1" in headers["authorization"]) == ("AWAY" in signed)
        assert headers.get("x-amz-security-token") == ("lent" if "AWAY" in signed else None)
    assert (
        assert_fails(lambda: open_store("s3://nobody@bucket", "app", folder=Path())).exit_status == Exit.USAGE
    )


def test_profile_in_address_overrides_variables(place, proxy, monkeypatch, tmp_path):
    (tmp_path / "credentials").write_text(
        f"[away]\naws_access_key_id = AWAY\naws_secret_access_key = y\nendpoint_url = {proxy.url}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another key")
    assert open_store(f"s3://away@{place.bucket.name}", "app", folder=Path()).list_folders() == {}
    assert "Credential=AWAY/" in proxy.requests[-1].headers["authorization"]
    assert "x-amz-security-token" not in proxy.requests[-1].headers


def test_secret_can_be_read_from_file(place, monkeypatch, tmp_path):
    (tmp_path / "secret").write_text(storage.SECRET + "\n")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY_FILE", str(tmp_path / "secret"))
    assert place.open().list_folders() == {}
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY_FILE", str(tmp_path / "nowhere"))
    assert assert_fails(place.open).exit_status == Exit.USAGE


def test_objects_are_listed_page_by_page(place, proxy):
    for number in range(40):
        place.put(f"20260101_0000{number:02}", "manifest.json", b"{}")
    pages = []

    def reduce_page_size(request):
        """Reduce the page size of 1000 objects to seven."""
        if request.method == "GET" and "list-type=2" in request.path:
            pages.append(request.path)
            return proxy.forward(structs.replace(request, path=f"{request.path}&max-keys=7"))
        return None

    proxy.interfere = reduce_page_size
    assert len(place.open().list_folders()) == 40
    assert len(pages) == 6


@pytest.mark.parametrize("name", ["a//b", "a/../b"])
def test_invalid_object_name_is_reported(place, name):
    create_backup(place.open(), a=b"1")
    storage.send_request(storage.port(), "PUT", f"/{place.bucket.name}/deep/er/app/{SECOND_FOLDER}/{name}")
    assert "not a valid file name" in str(assert_fails(lambda: place.open().list_folders()))


# Interrupted requests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 503])
def test_request_is_repeated_after_server_error(place, proxy, status):
    request_counts = {"GET": 0, "PUT": 0, "POST": 0, "DELETE": 0}

    def fail_every_other(request):
        request_counts[request.method] += 1
        return error_response(status, "SlowDown") if request_counts[request.method] % 2 else None

    proxy.interfere = fail_every_other
    store = place.open()
    with store.lock("backup create", timeout=1):
        create_backup(store, a=b"x" * LARGE_SIZE, b=b"2")
    assert hash_blocks(store.read(FIRST_FOLDER, "a")) == hash_blocks([b"x" * LARGE_SIZE])


def test_interrupted_read_is_repeated(place, proxy):
    create_backup(place.open(), a=bytes(range(256)) * (LARGE_SIZE // 256))
    cuts = []

    def cut(request, response):
        if (
            request.method == "GET"
            and request.path.endswith("/a")
            and len(response.body) > 1000
            and len(cuts) < 2
        ):
            cuts.append(request)
            return Response(status=response.status, body=response.body, headers=response.headers, sent=1000)
        return response

    proxy.change = cut
    assert hash_blocks(place.open().read(FIRST_FOLDER, "a")) == hash_blocks(
        [bytes(range(256)) * (LARGE_SIZE // 256)]
    )
    assert len(cuts) == 2


@pytest.mark.slow
def test_repeatedly_interrupted_read_fails(place, proxy):
    create_backup(place.open(), a=b"1" * 5000)
    proxy.change = lambda request, response: (
        Response(status=response.status, body=response.body, headers=response.headers, sent=10)
        if request.path.endswith("/a")
        else response
    )
    assert "was interrupted" in str(assert_fails(lambda: hash_blocks(place.open().read(FIRST_FOLDER, "a"))))


def test_lost_response_of_creation_is_recognised(place, proxy):
    """If the response to a creation is lost, the object exists when it is created again."""
    lost = set()

    def lose(request, response):
        if request.method == "PUT" and request.path not in lost:
            lost.add(request.path)
            return CUT
        return response

    proxy.change = lose
    store = place.open()
    with store.lock("backup create", timeout=0):
        create_backup(store, a=b"1")
    assert len(lost) == 4  # the lock, the mark, the file, the manifest
    assert store.list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}


@pytest.mark.slow
@pytest.mark.parametrize("step", ["part", "completion", "mark", "manifest", "reading back"])
@pytest.mark.parametrize("response", [error_response(403, "AccessDenied"), CUT], ids=["refused", "cut"])
def test_failed_upload_leaves_no_backup_and_no_parts(place, proxy, step, response, monkeypatch):
    create_backup(place.open(), SECOND_FOLDER, a=b"earlier")
    before = place.bucket.keys()
    failing = {
        "part": lambda request: "partNumber=2" in request.path,
        "completion": lambda request: request.method == "POST" and "uploadId" in request.path,
        "mark": lambda request: request.method == "PUT" and request.path.endswith("incomplete"),
        "manifest": lambda request: request.method == "PUT" and request.path.endswith("manifest.json"),
        "reading back": lambda request: request.method == "GET" and request.path.endswith("/a"),
    }[step]
    proxy.interfere = lambda request: response if failing(request) else None
    assert (
        assert_fails(lambda: create_backup(place.open(), a=b"x" * LARGE_SIZE)).exit_status == Exit.UNREACHABLE
    )
    assert place.bucket.keys() == before
    assert b"<Upload>" not in place.bucket.uploads()


@pytest.mark.parametrize(("blocks", "fits"), [(10, True), (11, False)])
def test_file_is_refused_that_is_larger_than_its_parts(place, monkeypatch, blocks, fits):
    """The expected size of 6 MiB takes two parts of 5 MiB."""
    monkeypatch.setattr(connection, "MAX_PARTS", 2)

    def write():
        with place.open().create_folder(FIRST_FOLDER) as writer:
            writer.write("big", (b"x" * 2**20 for _ in range(blocks)), 6 << 20)
            writer.write_manifest("{}")

    if fits:
        write()
    else:
        error = assert_fails(write)
        assert (error.code, "10,485,760 bytes" in str(error)) == ("storage-failed", True)
    assert bool(place.bucket.keys()) == fits
    assert b"<Upload>" not in place.bucket.uploads()


@pytest.mark.parametrize(
    ("endpoint", "count"),
    [("", 10_000), ("https://s3.nl-ams.scw.cloud", 1_000), ("https://scw.cloud.example.com", 10_000)],
)
def test_parts_of_an_upload_are_those_of_the_provider(monkeypatch, endpoint, count):
    for name, value in storage.variables(endpoint or "https://localhost").items():
        monkeypatch.setenv(name, value)
    assert connection.count_parts(Address(bucket="b", prefix="")) == count


def test_changed_content_is_detected(place, proxy):
    def change_first_byte(request, response):
        if request.method != "GET" or not request.path.endswith("/a"):
            return response
        body = bytes([response.body[0] ^ 1]) + response.body[1:]
        return Response(status=response.status, body=body, headers=response.headers)

    proxy.change = change_first_byte
    error = assert_fails(lambda: create_backup(place.open(), a=b"1"))
    assert "it returns a with another content than it was sent" in str(error)
    assert place.bucket.keys() == []


def test_every_request_has_signed_digest(place, proxy):
    import hashlib

    create_backup(place.open(), a=b"x" * LARGE_SIZE, b=b"2")
    sent = [request for request in proxy.requests if request.body]
    assert len(sent) >= 5
    for request in sent:
        assert request.headers["x-amz-content-sha256"] == hashlib.sha256(request.body).hexdigest()
        assert "x-amz-content-sha256" in request.headers["authorization"]
        assert storage.SECRET not in str(request.headers)


def test_interrupted_removal_leaves_incomplete_folder(place, proxy):
    create_backup(place.open(), a=b"1", b=b"2")
    proxy.interfere = lambda request: (
        error_response(403, "AccessDenied")
        if request.method == "DELETE" and request.path.endswith("/b")
        else None
    )
    assert_fails(lambda: place.open().remove_folder(FIRST_FOLDER))
    assert place.open().list_folders() == {FIRST_FOLDER: FolderState.INCOMPLETE}
    proxy.interfere = lambda _request: None
    place.open().remove_folder(FIRST_FOLDER)
    assert place.bucket.keys() == []


# Locks ------------------------------------------------------------------------------------------------------------


def test_storage_without_conditional_writes_is_refused(place, proxy):
    def ignore_condition(request):
        request.headers.pop("if-none-match", None)

    proxy.interfere = ignore_condition
    error = assert_fails(lambda: place.open().lock("backup create", timeout=0).__enter__())
    assert (type(error), error.exit_status) == (StorageIncompatibleError, Exit.USAGE)
    assert place.bucket.keys() == []


def test_storage_failure_is_not_backup_failure(place, proxy):
    """Otherwise a network failure would make every backup look unreadable."""
    create_backup(place.open(), a=b"1")
    proxy.interfere = lambda request: (
        error_response(403, "AccessDenied") if "manifest" in request.path else None
    )
    assert isinstance(assert_fails(lambda: place.open().read_manifest(FIRST_FOLDER)), StorageFailedError)
    assert not issubclass(StorageFailedError, RepositoryFailedError)


# Storage that fails at the end or becomes silent ----------------------------------------------------------------


def is_manifest_upload(request):
    return request.method == "PUT" and request.path.partition("?")[0].endswith("/manifest.json")


def test_folder_is_complete_if_manifest_response_is_lost(place, proxy):
    store = place.open()
    proxy.change = lambda request, response: CUT if is_manifest_upload(request) else response
    create_backup(store, a=b"1")
    assert store.list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}


def test_unknown_state_of_folder_is_reported(place, proxy, monkeypatch):
    monkeypatch.setattr(client, "RETRY_TIMEOUT", timedelta(seconds=0))
    store, sent = place.open(), list[str]()

    def fail(request, response):
        sent.extend([request.path] if is_manifest_upload(request) else [])
        return error_response(503, "SlowDown") if sent else response

    proxy.change, proxy.interfere = fail, lambda _request: error_response(503, "SlowDown") if sent else None
    error = assert_fails(lambda: create_backup(store, a=b"1"))
    assert error.code == "storage-failed"
    assert FIRST_FOLDER in "".join(error.details)
    assert FIRST_FOLDER in error.hint
    sent.clear()
    proxy.change = lambda _request, response: response
    assert store.list_folders() == {FIRST_FOLDER: FolderState.COMPLETE}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_silent_server_is_given_up(place, proxy, monkeypatch, method):
    for name, seconds in (("RETRY_TIMEOUT", 4), ("READ_TIMEOUT", 1.5), ("WRITE_TIMEOUT", 5)):
        monkeypatch.setattr(client, name, timedelta(seconds=seconds))
    is_ended = threading.Event()
    store = place.open()
    create_backup(store, a=b"1")

    def block_request(request):
        if request.method == method:
            is_ended.wait()
        return CUT if is_ended.is_set() else None

    proxy.interfere = block_request
    action = store.list_folders if method == "GET" else lambda: store.write_verification(FIRST_FOLDER, "{}")
    before = len(proxy.requests)
    first = assert_fails(action)
    requests = [request for request in proxy.requests[before:] if request.method == method]
    assert "did not respond in time" in str(first)
    assert len(requests) == (3 if method == "GET" else 1)  # a write has more time
    if method == "GET":
        before = len(proxy.requests)
        assert_fails(action)
        assert len(proxy.requests) - before == 1
    is_ended.set()
