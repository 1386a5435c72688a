"""Storage that speaks S3 does what every store does, and what becomes of it when the network or the server does not."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.errors import (
    BusyError,
    DbctlError,
    Exit,
    RepositoryFailedError,
    StorageFailedError,
    StorageKeysMissingError,
    StorageUnfitError,
    StorageUnknownError,
)
from dbctl.stores.base import State, Store, digest
from dbctl.stores.registry import open_store
from dbctl.stores.s3 import client, lock
from tests import servers, storage
from tests.conformance.stores import LARGE, ONE, TWO, Place, StoreContract, fill
from tests.fault_proxy import CUT, Answer, Meddler, refused


class Storage(Place):
    """``PREFIX`` in a bucket of its own."""

    def __init__(self, bucket: storage.Bucket) -> None:
        self.bucket = bucket

    def open(self, app: str = "app") -> Store:
        return open_store(f"s3://{self.bucket.name}/deep/er", app, folder=Path("/nonexistent"), timeout=2)

    def put(self, folder: str, name: str, content: bytes) -> None:
        self.bucket.put(f"deep/er/app/{folder}/{name}", content)

    def take(self, folder: str, name: str) -> None:
        self.bucket.delete(f"deep/er/app/{folder}/{name}")

    def names(self, folder: str) -> set[str]:
        top = f"deep/er/app/{folder}"
        return {one.removeprefix(f"{top}/") for one in self.bucket.keys(top)}


@pytest.fixture
def place(monkeypatch, tmp_path):
    return Storage(storage.given_to(monkeypatch, tmp_path))


class TestS3(StoreContract):
    @pytest.fixture
    def place(self, place):
        return place


@pytest.fixture
def meddler(place, monkeypatch):
    """Stand between dbctl and its storage."""
    with Meddler(storage.port()).running() as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
        yield made


def broken(what, *, secret=storage.SECRET):
    """Return the failure that ``what`` ends in, in which no key stands."""
    with pytest.raises(DbctlError) as caught:
        what()
    error = caught.value
    told = f"{error} {error.hint} {error.facts}"
    assert secret not in told
    assert storage.KEY not in told
    return error


# Refused ---------------------------------------------------------------------------------------------------------

REPEATS = f"<AWSAccessKeyId>{storage.KEY}</AWSAccessKeyId><StringToSign>{storage.SECRET}</StringToSign>"


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "AccessDenied", "the key may not do that"),
        (403, "InvalidAccessKeyId", "does not know the access key"),
        (403, "SignatureDoesNotMatch", "the secret key does not belong"),
        (403, "RequestTimeTooSkewed", "clock of this machine"),
        (400, "ExpiredToken", "has expired"),
        (400, "AuthorizationHeaderMalformed", "another region"),
        (301, "PermanentRedirect", "another region"),
        (404, "NoSuchBucket", "there is no bucket"),
        (400, "InvalidBucketName", "no bucket of that name"),
        (403, "SomethingNew", "refuses the key (403 (SomethingNew))"),
        (400, "SomethingNew", "answers 400 (SomethingNew)"),
        (501, "NotImplemented", "answers 501 (NotImplemented)"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_what_a_server_refuses_is_told_in_words_without_what_it_wrote(
    place, meddler, status, code, reason, method
):
    store = place.open()
    meddler.meddle = lambda asked: refused(status, code, REPEATS) if asked.method == method else None
    error = broken(lambda: fill(store, a=b"1"))
    assert (error.code, error.exit_status) == ("storage-failed", Exit.UNREACHABLE)
    assert reason in str(error)
    assert "No." not in str(error)
    assert error.hint
    assert place.bucket.keys() == []


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("http://127.0.0.1:{free}", "nobody listens"),
        ("http://no-such-host.invalid", "name of its host is not known"),
        ("https://127.0.0.1:{port}", "does not speak TLS"),
        ("http://127.0.0.1:{silent}", "did not answer in time"),
    ],
)
def test_a_way_that_leads_nowhere_is_told_and_soon(place, monkeypatch, endpoint, reason):
    import socket

    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        fill_up = [socket.socket() for _ in range(4)]  # then the kernel takes no further connection
        for one in fill_up:
            one.setblocking(False)
            one.connect_ex(silent.getsockname())
        at = endpoint.format(free=servers.free_port(), port=storage.port(), silent=silent.getsockname()[1])
        monkeypatch.setenv("AWS_ENDPOINT_URL", at)
        error = broken(lambda: place.open().folders())
        for one in fill_up:
            one.close()
    assert (error.code, error.exit_status) == ("storage-failed", Exit.UNREACHABLE)
    assert reason in str(error)


def test_a_certificate_counts_when_its_authority_is_trusted(place, monkeypatch, tmp_path):
    import ssl

    import trustme

    context, authority = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "none.pem").write_text("nothing")
    with Meddler(storage.port(), context).running() as secure:
        monkeypatch.setenv("AWS_ENDPOINT_URL", secure.url)
        error = broken(lambda: place.open().folders())
        assert "certificate of its host is not trusted" in str(error)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        assert place.open().folders() == {}
        for wrong in ("none.pem", "nowhere.pem"):
            monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / wrong))
            assert broken(place.open).exit_status == Exit.USAGE


def test_a_server_that_takes_a_request_and_never_answers_is_told_and_soon(place, meddler):
    end = threading.Event()

    def wait(_asked):
        end.wait(30)

    meddler.meddle = wait
    begun = time.monotonic()
    error = broken(lambda: place.open().folders())
    assert "did not answer in time" in str(error)
    assert time.monotonic() - begun < 20
    end.set()


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_REGION", "eu west"), ("AWS_ACCESS_KEY_ID", "a\nb"), ("AWS_SESSION_TOKEN", "ä\r\nx: y")],
)
def test_what_no_request_can_carry_is_refused_before(place, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert broken(place.open).exit_status == Exit.USAGE


def test_without_the_library_it_says_what_to_install(place, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "obstore"]:
        monkeypatch.setitem(sys.modules, name, None)
    error = broken(place.open)
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
def test_an_address_that_is_none_is_refused_before_anything_is_asked(place, meddler, address):
    error = broken(lambda: open_store(address, "app", folder=Path()), secret="made-up")
    assert (type(error), error.exit_status) == (StorageUnknownError, Exit.USAGE)
    assert meddler.asked == []


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:9000", "ftp://host", "http:///", "http://h:99999", "http://u:p@h o/", "https://ä"]
)
def test_an_endpoint_that_is_none_is_refused_and_not_repeated(place, monkeypatch, endpoint):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    error = broken(place.open, secret=endpoint)
    assert (type(error), error.exit_status) == (StorageUnknownError, Exit.USAGE)


@pytest.mark.parametrize(
    "lacking",
    [["AWS_ACCESS_KEY_ID"], ["AWS_SECRET_ACCESS_KEY"], ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]],
)
def test_without_keys_nothing_is_asked(place, meddler, monkeypatch, lacking):
    for name in lacking:
        monkeypatch.delenv(name)
    error = broken(place.open)
    assert (type(error), error.exit_status) == (StorageKeysMissingError, Exit.USAGE)
    assert meddler.asked == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(body=b"<html>Welcome</html>"), "does not answer as S3 does"),
        (Answer(status=404, body=b"<html>nothing here</html>"), "answers 404"),
        (Answer(status=302, headers={"Location": "/elsewhere"}), "another region"),
        (Answer(body=b"<ListBucketResult><Contents><Key>" + b"x" * 10_000), "does not answer as S3 does"),
        (Answer(body=b""), "does not answer as S3 does"),
    ],
)
def test_what_is_no_storage_at_all_is_told_and_never_taken_for_an_empty_one(place, meddler, answer, reason):
    meddler.meddle = lambda _asked: answer
    for what in (lambda: place.open().last(ONE), lambda: place.open().folders()):
        error = broken(what)
        assert (error.code, error.exit_status) == ("storage-failed", Exit.UNREACHABLE)
    assert reason in str(error)


# Found -----------------------------------------------------------------------------------------------------------


def test_the_shared_files_of_profiles_give_keys_endpoint_and_region(place, meddler, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = D\naws_secret_access_key = x\n"
        "[away]\naws_access_key_id = AWAY\naws_secret_access_key = y\naws_session_token = lent\n"
    )
    (tmp_path / "config").write_text(
        f"[profile away]\nregion = eu-north-1\nservices = there\n"
        f"[services there]\ns3 =\n  endpoint_url = {meddler.url}\n[default]\nendpoint_url = {meddler.url}\n"
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
        assert store.folders() == {}
        headers = meddler.asked[-1].headers
        assert signed in headers["authorization"]
        assert ("eu-north-1" in headers["authorization"]) == ("AWAY" in signed)
        assert headers.get("x-amz-security-token") == ("lent" if "AWAY" in signed else None)
    assert broken(lambda: open_store("s3://nobody@bucket", "app", folder=Path())).exit_status == Exit.USAGE


def test_a_profile_in_the_address_counts_before_the_variables(place, meddler, monkeypatch, tmp_path):
    (tmp_path / "credentials").write_text(
        f"[away]\naws_access_key_id = AWAY\naws_secret_access_key = y\nendpoint_url = {meddler.url}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another key")
    assert open_store(f"s3://away@{place.bucket.name}", "app", folder=Path()).folders() == {}
    assert "Credential=AWAY/" in meddler.asked[-1].headers["authorization"]
    assert "x-amz-security-token" not in meddler.asked[-1].headers


def test_a_variable_may_name_a_file_that_holds_the_secret(place, monkeypatch, tmp_path):
    (tmp_path / "secret").write_text(storage.SECRET + "\n")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY_FILE", str(tmp_path / "secret"))
    assert place.open().folders() == {}
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY_FILE", str(tmp_path / "nowhere"))
    assert broken(place.open).exit_status == Exit.USAGE


def test_thousands_of_objects_are_listed_page_by_page(place, meddler):
    for number in range(40):
        place.put(f"20260101_0000{number:02}", "manifest.json", b"{}")
    pages = []

    def small(asked):
        """Ask for pages of seven, where dbctl asks for pages of a thousand."""
        if asked.method == "GET" and "list-type=2" in asked.path:
            pages.append(asked.path)
            return meddler.passed(structs.replace(asked, path=f"{asked.path}&max-keys=7"))
        return None

    meddler.meddle = small
    assert len(place.open().folders()) == 40
    assert len(pages) == 6


def test_what_others_keep_beside_is_not_in_the_way(place):
    place.bucket.put("deep/er/app/", b"")  # as consoles make folders
    place.bucket.put("deep/er/app/notes.txt", b"x")
    place.bucket.put("deep/er/apple/20260101_000000/manifest.json", b"x")
    place.bucket.put("deep/erratic", b"x")
    fill(place.open(), a=b"1")
    assert place.open().folders() == {ONE: State.WHOLE}


@pytest.mark.parametrize("name", ["a//b", "a/../b"])
def test_a_name_that_no_file_can_have_is_told(place, name):
    fill(place.open(), a=b"1")
    storage.asked(storage.port(), "PUT", f"/{place.bucket.name}/deep/er/app/{TWO}/{name}")
    assert "whose name no file can have" in str(broken(lambda: place.open().folders()))


# Interrupted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_recovers_is_asked_again(place, meddler, status):
    turns = {"GET": 0, "PUT": 0, "POST": 0, "DELETE": 0}

    def every_other(asked):
        turns[asked.method] += 1
        return refused(status, "SlowDown") if turns[asked.method] % 2 else None

    meddler.meddle = every_other
    store = place.open()
    with store.lock("backup create", timeout=1):
        fill(store, a=b"x" * LARGE, b=b"2")
    assert digest(store.read(ONE, "a")) == digest([b"x" * LARGE])


def test_a_connection_cut_in_the_middle_of_an_answer_is_taken_up_again(place, meddler):
    fill(place.open(), a=bytes(range(256)) * (LARGE // 256))
    cuts = []

    def cut(asked, answer):
        if asked.method == "GET" and asked.path.endswith("/a") and len(answer.body) > 1000 and len(cuts) < 2:
            cuts.append(asked)
            return Answer(status=answer.status, body=answer.body, headers=answer.headers, sent=1000)
        return answer

    meddler.change = cut
    assert digest(place.open().read(ONE, "a")) == digest([bytes(range(256)) * (LARGE // 256)])
    assert len(cuts) == 2


def test_a_connection_that_is_cut_again_and_again_ends_it(place, meddler):
    fill(place.open(), a=b"1" * 5000)
    meddler.change = lambda asked, answer: (
        Answer(status=answer.status, body=answer.body, headers=answer.headers, sent=10)
        if asked.path.endswith("/a")
        else answer
    )
    assert "cut off" in str(broken(lambda: digest(place.open().read(ONE, "a"))))


def test_an_answer_that_is_lost_is_not_taken_for_another_dbctl(place, meddler):
    """What was created, and its answer cut off, is there when it is created again."""
    lost = set()

    def lose(asked, answer):
        if asked.method == "PUT" and asked.path not in lost:
            lost.add(asked.path)
            return CUT
        return answer

    meddler.change = lose
    store = place.open()
    with store.lock("backup create", timeout=0):
        fill(store, a=b"1")
    assert len(lost) == 4  # the lock, the mark, the file, the last file
    assert store.folders() == {ONE: State.WHOLE}


@pytest.mark.parametrize("what", ["part", "completion", "mark", "manifest", "reading back"])
@pytest.mark.parametrize("how", [refused(403, "AccessDenied"), CUT], ids=["refused", "cut"])
def test_an_upload_that_fails_half_way_leaves_no_backup_and_no_parts(place, meddler, what, how, monkeypatch):
    fill(place.open(), TWO, a=b"earlier")
    before = place.bucket.keys()
    failing = {
        "part": lambda asked: "partNumber=2" in asked.path,
        "completion": lambda asked: asked.method == "POST" and "uploadId" in asked.path,
        "mark": lambda asked: asked.method == "PUT" and asked.path.endswith("incomplete"),
        "manifest": lambda asked: asked.method == "PUT" and asked.path.endswith("manifest.json"),
        "reading back": lambda asked: asked.method == "GET" and asked.path.endswith("/a"),
    }[what]
    meddler.meddle = lambda asked: how if failing(asked) else None
    assert broken(lambda: fill(place.open(), a=b"x" * LARGE)).exit_status == Exit.UNREACHABLE
    assert place.bucket.keys() == before
    assert b"<Upload>" not in place.bucket.uploads()


def test_what_comes_back_otherwise_than_it_was_sent_is_no_backup(place, meddler):
    def flip(asked, answer):
        if asked.method != "GET" or not asked.path.endswith("/a"):
            return answer
        body = bytes([answer.body[0] ^ 1]) + answer.body[1:]
        return Answer(status=answer.status, body=body, headers=answer.headers)

    meddler.change = flip
    error = broken(lambda: fill(place.open(), a=b"1"))
    assert "it gives a back otherwise than it was sent" in str(error)
    assert place.bucket.keys() == []


def test_every_request_carries_the_signed_digest_of_what_it_sends(place, meddler):
    import hashlib

    fill(place.open(), a=b"x" * LARGE, b=b"2")
    sent = [one for one in meddler.asked if one.body]
    assert len(sent) >= 5
    for one in sent:
        assert one.headers["x-amz-content-sha256"] == hashlib.sha256(one.body).hexdigest()
        assert "x-amz-content-sha256" in one.headers["authorization"]
        assert storage.SECRET not in str(one.headers)


def test_an_object_that_is_exchanged_while_it_is_read_is_told(place):
    fill(place.open(), a=b"1" * LARGE)
    reading = place.open().read(ONE, "a")
    next(reading)
    place.put(ONE, "a", b"2" * LARGE)
    with pytest.raises(RepositoryFailedError, match="exchanged while it was read"):
        list(reading)


def test_pruning_that_is_cut_off_leaves_what_calls_itself_incomplete(place, meddler):
    fill(place.open(), a=b"1", b=b"2")
    meddler.meddle = lambda asked: (
        refused(403, "AccessDenied") if asked.method == "DELETE" and asked.path.endswith("/b") else None
    )
    broken(lambda: place.open().remove(ONE))
    assert place.open().folders() == {ONE: State.INCOMPLETE}
    meddler.meddle = lambda _asked: None
    place.open().remove(ONE)
    assert place.bucket.keys() == []


def test_a_remark_that_came_too_late_is_swept_with_what_was_cut_off(place):
    place.put(ONE, "verified.json", b"{}")
    assert place.open().folders() == {ONE: State.INCOMPLETE}


# Locked ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(place, monkeypatch, tmp_path):
    """Give the store as another machine sees it."""
    (tmp_path / "elsewhere").mkdir()

    def opened():
        monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
        store = place.open()
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        return store

    return opened


def test_a_dbctl_of_another_machine_waits_and_is_told_who_holds_it(place, elsewhere):
    with (
        place.open().lock("backup create", timeout=0),
        pytest.raises(BusyError, match="by dbctl backup create"),
        elsewhere().lock("prune", timeout=0),
    ):
        pass
    with elsewhere().lock("prune", timeout=0):
        pass
    assert place.bucket.keys() == []


def killed(place, elsewhere):
    """Leave the lock object of a dbctl of another machine that was killed."""
    holder = elsewhere().lock("backup create", timeout=0)
    holder.__enter__()
    left = place.bucket.get("deep/er/app/.dbctl-lock")
    holder.__exit__(None, None, None)
    place.bucket.put("deep/er/app/.dbctl-lock", left)


def test_a_dbctl_of_this_machine_that_was_killed_is_in_nobodys_way(place, elsewhere):
    killed(place, elsewhere)
    with pytest.raises(BusyError), place.open().lock("prune", timeout=0):
        pass
    with elsewhere().lock("prune", timeout=0):  # which is the machine it was killed on
        pass


def test_one_of_another_machine_is_taken_over_once_it_shows_no_sign_of_life(place, elsewhere, monkeypatch):
    killed(place, elsewhere)
    later = lock.now() + timedelta(seconds=lock.LAPSE + 1)
    monkeypatch.setattr(lock, "now", lambda: later)
    with place.open().lock("prune", timeout=0):
        assert json.loads(place.bucket.get("deep/er/app/.dbctl-lock"))["command"] == "prune"


def test_its_holder_shows_signs_of_life(place, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    with place.open().lock("backup create", timeout=0):
        first = place.bucket.get("deep/er/app/.dbctl-lock")
        until = time.monotonic() + 20
        while place.bucket.get("deep/er/app/.dbctl-lock") == first:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_one_whose_lock_was_taken_over_makes_no_backup_any_more(place):
    store = place.open()
    with pytest.raises(BusyError), store.lock("backup create", timeout=0):
        place.bucket.put("deep/er/app/.dbctl-lock", b'{"token": "of another dbctl"}')
        fill(store, a=b"1")
    assert place.bucket.keys() == ["deep/er/app/.dbctl-lock"]  # which is not its own to take away


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b'{"machine": 1}', b"[" * 100_000])
def test_a_lock_that_says_nothing_is_held_all_the_same(place, text):
    place.bucket.put("deep/er/app/.dbctl-lock", text)
    with pytest.raises(BusyError, match="by another dbctl"), place.open().lock("prune", timeout=0):
        pass


def test_storage_that_writes_over_what_was_to_be_created_is_not_used(place, meddler):
    def careless(asked):
        asked.headers.pop("if-none-match", None)

    meddler.meddle = careless
    error = broken(lambda: place.open().lock("backup create", timeout=0).__enter__())
    assert (type(error), error.exit_status) == (StorageUnfitError, Exit.USAGE)
    assert place.bucket.keys() == []


def test_a_failure_of_storage_is_no_failure_of_one_backup(place, meddler):
    """Else the network would make every backup one that cannot be read."""
    fill(place.open(), a=b"1")
    meddler.meddle = lambda asked: refused(403, "AccessDenied") if "manifest" in asked.path else None
    assert isinstance(broken(lambda: place.open().last(ONE)), StorageFailedError)
    assert not issubclass(StorageFailedError, RepositoryFailedError)


# Storage that fails at the end, or falls silent ----------------------------------------------------------------------


def is_last_file(asked):
    return asked.method == "PUT" and asked.path.partition("?")[0].endswith("/manifest.json")


def test_a_folder_whose_last_file_arrived_is_whole_although_no_answer_told_so(place, meddler):
    store = place.open()
    meddler.change = lambda asked, answer: CUT if is_last_file(asked) else answer
    fill(store, a=b"1")
    assert store.folders() == {ONE: State.WHOLE}


def test_whether_a_folder_is_whole_is_said_to_be_unknown_with_its_name_where_storage_fails_at_that_moment(
    place, meddler, monkeypatch
):
    monkeypatch.setattr(client, "GIVE_UP", timedelta(seconds=0))
    store, sent = place.open(), list[str]()

    def fail(asked, answer):
        sent.extend([asked.path] if is_last_file(asked) else [])
        return refused(503, "SlowDown") if sent else answer

    meddler.change, meddler.meddle = fail, lambda _asked: refused(503, "SlowDown") if sent else None
    error = broken(lambda: fill(store, a=b"1"))
    assert error.code == "storage-failed"
    assert ONE in "".join(error.details)
    assert ONE in error.hint
    sent.clear()
    meddler.change = lambda _asked, answer: answer
    assert store.folders() == {ONE: State.WHOLE}


def test_a_mark_that_a_killed_dbctl_left_in_a_whole_folder_is_deleted_by_the_next_one(place):
    store = place.open()
    fill(store, a=b"1")
    place.put(ONE, ".dbctl-incomplete", b"")
    assert store.folders() == {ONE: State.WHOLE}
    fill(store, TWO, a=b"1")
    assert ".dbctl-incomplete" not in place.names(ONE)


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_server_that_falls_silent_is_given_up_and_then_not_waited_for_as_long(
    place, meddler, monkeypatch, method
):
    for name, seconds in (("GIVE_UP", 4), ("READ_SILENCE", 1.5), ("WRITE_SILENCE", 5)):
        monkeypatch.setattr(client, name, timedelta(seconds=seconds))
    ended = threading.Event()
    store = place.open()
    fill(store, a=b"1")

    def be_silent(asked):
        if asked.method == method:
            ended.wait()
        return CUT if ended.is_set() else None

    meddler.meddle = be_silent
    failing = store.folders if method == "GET" else lambda: store.note(ONE, "{}")
    before = len(meddler.asked)
    first = broken(failing)
    asked = [one for one in meddler.asked[before:] if one.method == method]
    assert "did not answer in time" in str(first)
    assert len(asked) == (3 if method == "GET" else 1)  # what writes has its body on the way, and more time
    if method == "GET":
        before = len(meddler.asked)
        broken(failing)
        assert len(meddler.asked) - before == 1
    ended.set()
