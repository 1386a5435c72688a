"""Files in the age format: the ``age`` command and dbctl open each other's, and nothing that is damaged passes."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess

import pexpect
import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbctl.errors import CorruptError, KeyInvalidError, KeyWrongError
from dbctl.files import age
from dbctl.model import Secret
from dbctl.signals import Interrupted
from tests.services.flashpoint_app import caught

#: What a file of age keeps together.
CHUNK = 1 << 16
#: Made for these tests alone.
OWN = pyrage.x25519.Identity.from_str(
    "AGE-SECRET-KEY-1QPFT83NNL5J5T6VUXDC7R39K0SX5Z7DH56FN3EXX4ZX8M9FDGEJS2PM4S9"
)
OTHER = pyrage.x25519.Identity.from_str(
    "AGE-SECRET-KEY-1J6P2HU5X4H09YLHTPPU66QG2W6Q28V2W7HTTAQW6FUXAFTSMRYRS2LAQCY"
)
FOR_OWN = (OWN.to_public(),)
needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed")


def nobody(_what):
    raise AssertionError("nobody should be asked")


def sealed(*blocks, recipients=FOR_OWN):
    made = io.BytesIO()
    age.encrypt(blocks, made.write, recipients)
    return made.getvalue()


def opened(raw, *identities):
    made = io.BytesIO()
    age.decrypt(io.BytesIO(raw).read, made.write, identities or [OWN], target="tests", name="one.age")
    return made.getvalue()


@given(parts=st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 9000)), max_size=6))
@settings(deadline=None, max_examples=30)
def test_what_comes_in_blocks_of_any_size_comes_back_as_it_was(parts):
    blocks = [part * times for part, times in parts]
    assert opened(sealed(*blocks)) == b"".join(blocks)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_every_recipient_opens_it_whatever_its_size(size):
    raw = sealed(b"x" * size, recipients=[OWN.to_public(), OTHER.to_public()])
    assert opened(raw) == opened(raw, OTHER) == b"x" * size
    stranger = pyrage.x25519.Identity.generate()
    assert caught(KeyWrongError, lambda: opened(raw, stranger)).exit_status == 6
    assert opened(raw, stranger, OTHER) == b"x" * size


def test_no_change_of_a_bit_passes():
    raw = sealed(os.urandom(2 * CHUNK + 100))
    chance = random.Random(3)  # noqa: S311 - places, not secrets
    header = range(raw.index(b"\n---") + 50)
    for place in (*header, *(chance.randrange(len(raw)) for _ in range(60))):
        changed = bytearray(raw)
        changed[place] ^= 1 << chance.randrange(8)
        with pytest.raises((CorruptError, KeyWrongError)):
            opened(bytes(changed))


def test_nothing_that_is_cut_or_followed_by_something_passes():
    raw = sealed(os.urandom(2 * CHUNK + 100))
    chunks = len(raw) - (CHUNK + 16) - 116
    for length in (0, 1, 20, 100, 150, chunks, chunks + CHUNK + 16, len(raw) - 100, len(raw) - 1):
        with pytest.raises((CorruptError, KeyWrongError)):
            opened(raw[:length])
    caught(CorruptError, lambda: opened(raw + b"\0"))
    caught(CorruptError, lambda: opened(b"not of age\n" * 9))


def test_what_a_write_raises_is_raised_also_by_the_last_one():
    calls, failing = 0, 0

    def write(block):
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(28, "No space left on device")
        return len(block)

    def encrypted():
        nonlocal calls
        calls = 0
        age.encrypt([b"x" * (CHUNK + 100)], write, FOR_OWN)
        return calls

    for failing in range(1, encrypted() + 1):  # noqa: B007 - which write fails
        with pytest.raises(OSError, match="No space left"):
            encrypted()


def test_a_signal_while_it_reads_or_writes_is_that_signal():
    def stop(_size):
        raise Interrupted(15)

    with pytest.raises(Interrupted):
        age.decrypt(stop, len, [OWN], target="tests", name="one.age")
    with pytest.raises(Interrupted):
        age.encrypt((stop(1) for _ in "x"), len, [OWN.to_public()])
    with pytest.raises(Interrupted):
        age.decrypt(io.BytesIO(sealed(b"x")).read, stop, [OWN], target="tests", name="one.age")


# The age command -------------------------------------------------------------------------------------------------


def pair(kind, folder):
    """Return a recipient and the file of its identity."""
    path = folder / kind
    if kind == "x25519":
        path.write_text(f"# mine\n\n{OWN}\r\n")
        return str(OWN.to_public()), path
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text().strip(), path


@needs_age
@pytest.mark.parametrize("kind", ["x25519", "ed25519", "rsa"])
def test_the_age_command_and_dbctl_open_what_the_other_encrypted(tmp_path, kind):
    text = os.urandom(CHUNK + 7)
    recipient, identity = pair(kind, tmp_path)
    ours = sealed(text, recipients=[age.recipient(recipient, "here")])
    theirs = subprocess.run(["age", "-d", "-i", identity], input=ours, capture_output=True, check=True)
    assert theirs.stdout == text
    own = age.identities(identity.read_bytes(), str(identity), nobody)
    for form in ([], ["--armor"]):
        made = subprocess.run(["age", "-r", recipient, *form], input=text, capture_output=True, check=True)
        assert opened(made.stdout, *own) == text


@needs_age
def test_the_age_command_asks_for_the_passphrase_of_a_key_and_opens_with_it(tmp_path):
    key = age.made_key(Secret("of the sea"))
    (tmp_path / "key.age").write_bytes(key.file)
    (tmp_path / "one.age").write_bytes(sealed(b"here", recipients=[age.recipient(key.recipient, "here")]))
    run = pexpect.spawn("age", ["-d", "-i", "key.age", "one.age"], cwd=str(tmp_path), timeout=60)
    run.expect("passphrase")
    run.sendline("of the sea")
    run.expect("here")
    run.expect(pexpect.EOF)
    run.close()
    assert run.exitstatus == 0


# Keys ------------------------------------------------------------------------------------------------------------


def test_a_key_that_a_passphrase_protects_opens_with_that_one_alone():
    key = age.made_key(Secret("of the sea"))
    asked = []

    def ask(what):
        asked.append(what)
        return Secret("of the sea")

    (identity,) = age.identities(key.file, "key.age", ask)
    assert (asked, str(identity.to_public())) == (["key.age"], key.recipient)
    assert b"SECRET" not in key.file
    wrong = caught(KeyWrongError, lambda: age.identities(key.file, "key.age", lambda _: Secret("of the see")))
    assert "of the se" not in f"{wrong} {wrong.hint}"
    for damaged in (key.file[:-1], key.file[:40], key.file + b"x"):
        caught(KeyInvalidError, lambda damaged=damaged: age.identities(damaged, "key.age", ask))


def test_a_key_that_asks_for_hours_of_work_is_refused_at_once():
    key = age.made_key(Secret("x"))
    head, _, rest = key.file.partition(b"\n-> scrypt ")
    salt, _, rest = rest.partition(b" ")
    bomb = head + b"\n-> scrypt " + salt + b" 40\n" + rest.partition(b"\n")[2]
    told = caught(KeyInvalidError, lambda: age.identities(bomb, "key.age", lambda _: Secret("x")))
    assert "more work" in str(told)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no identity"),
        (b"# public key: age1abc\n\n", "no identity"),
        (b"AGE-SECRET-KEY-1QQQ\n", "line 1: it is no identity"),
        (b"\xff\xfe\x00", "line 1: it is no identity"),
        (b"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\n", "line 1: it is no identity"),
        (f"{OTHER}\njunk {OTHER}\n".encode(), "line 2: it is no identity"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\njunk\n", "no key of ssh"),
    ],
)
def test_what_is_no_identity_is_refused_and_not_repeated(raw, why):
    told = caught(KeyInvalidError, lambda: age.identities(raw, "id.txt", lambda _: Secret("x")))
    assert why in str(told)
    assert str(OTHER) not in f"{told} {told.hint}"
    assert told.exit_status == 2


def test_a_file_for_recipients_is_no_key_that_a_passphrase_protects():
    told = caught(KeyInvalidError, lambda: age.identities(sealed(b"x"), "id.age", lambda _: Secret("x")))
    assert "encrypted for recipients" in str(told)


@needs_ssh
def test_a_key_of_ssh_with_a_passphrase_is_refused_with_its_reason(tmp_path):
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "sesame", "-f", path], check=True)
    told = caught(KeyInvalidError, lambda: age.identities(path.read_bytes(), "key", nobody))
    assert "a passphrase protects this key of ssh" in str(told)


@pytest.mark.parametrize(
    "text",
    ["", "age1xyz", "ssh-ed25519 AAAA", "ssh-dss AAAA", str(OWN), f"{OWN.to_public()}x", "age1pq1qqqq"],
)
def test_what_is_no_recipient_is_refused_and_a_secret_is_not_repeated(text):
    told = caught(KeyInvalidError, lambda: age.recipient(text, "recipient 1 of shop"))
    assert str(told).startswith("recipient 1 of shop: ")
    assert str(OWN) not in f"{told} {told.hint}"
