"""Encryption with the age format: compatibility with the ``age`` command, and detection of damage."""

from __future__ import annotations

import base64
import io
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.errors.backup import KeyInvalidError, KeyWrongError
from dbctl.errors.connection import CorruptError
from dbctl.files import age, age_passphrase
from dbctl.model import Secret
from dbctl.signals import Interrupted
from tests.services.flashpoint_app import catch_error

ROOT = Path(__file__).parents[2]
#: Bytes that age encrypts as one unit.
CHUNK = 1 << 16
#: Keys for these tests only.
IDENTITY = pyrage.x25519.Identity.from_str(
    "AGE-SECRET-KEY-1QPFT83NNL5J5T6VUXDC7R39K0SX5Z7DH56FN3EXX4ZX8M9FDGEJS2PM4S9"
)
OTHER_IDENTITY = pyrage.x25519.Identity.from_str(
    "AGE-SECRET-KEY-1J6P2HU5X4H09YLHTPPU66QG2W6Q28V2W7HTTAQW6FUXAFTSMRYRS2LAQCY"
)
RECIPIENTS = (IDENTITY.to_public(),)
needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed")


@pytest.fixture
def little_work(monkeypatch):
    """Let new passphrases cost no time, where their work is not the subject."""
    monkeypatch.setattr(age_passphrase, "WORK_FACTOR", 2)


def fail_on_passphrase(_prompt):
    raise AssertionError("no passphrase is expected")


def encrypt(*blocks, recipients=RECIPIENTS):
    output = io.BytesIO()
    age.encrypt(blocks, output.write, recipients)
    return output.getvalue()


def decrypt(raw, *identities):
    output = io.BytesIO()
    age.decrypt(io.BytesIO(raw).read, output.write, identities or [IDENTITY], target="tests", name="one.age")
    return output.getvalue()


@given(parts=st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 9000)), max_size=6))
def test_blocks_of_any_size_round_trip(parts):
    blocks = [part * times for part, times in parts]
    assert decrypt(encrypt(*blocks)) == b"".join(blocks)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_every_recipient_decrypts_files_of_any_size(size):
    raw = encrypt(b"x" * size, recipients=[IDENTITY.to_public(), OTHER_IDENTITY.to_public()])
    assert decrypt(raw) == decrypt(raw, OTHER_IDENTITY) == b"x" * size
    other_identity = pyrage.x25519.Identity.generate()
    assert catch_error(KeyWrongError, lambda: decrypt(raw, other_identity)).exit_status == 6
    assert decrypt(raw, other_identity, OTHER_IDENTITY) == b"x" * size


def test_flipped_bit_is_detected():
    raw = encrypt(os.urandom(2 * CHUNK + 100))
    rng = random.Random(3)  # noqa: S311 - places, not secrets
    header = range(raw.index(b"\n---") + 50)
    for position in (*header, *(rng.randrange(len(raw)) for _ in range(60))):
        changed = bytearray(raw)
        changed[position] ^= 1 << rng.randrange(8)
        with pytest.raises((CorruptError, KeyWrongError)):
            decrypt(bytes(changed))


def test_truncated_or_extended_file_is_refused():
    raw = encrypt(os.urandom(2 * CHUNK + 100))
    chunks = len(raw) - (CHUNK + 16) - 116
    for length in (0, 1, 20, 100, 150, chunks, chunks + CHUNK + 16, len(raw) - 100, len(raw) - 1):
        with pytest.raises((CorruptError, KeyWrongError)):
            decrypt(raw[:length])
    catch_error(CorruptError, lambda: decrypt(raw + b"\0"))
    catch_error(CorruptError, lambda: decrypt(b"not of age\n" * 9))


def test_error_of_any_write_is_raised():
    calls, failing = 0, 0

    def write(block):
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(28, "No space left on device")
        return len(block)

    def encrypt_and_count():
        nonlocal calls
        calls = 0
        age.encrypt([b"x" * (CHUNK + 100)], write, RECIPIENTS)
        return calls

    for failing in range(1, encrypt_and_count() + 1):  # noqa: B007 - which write fails
        with pytest.raises(OSError, match="No space left"):
            encrypt_and_count()


def test_signal_during_read_or_write_is_raised():
    def stop(_size):
        raise Interrupted(15)

    with pytest.raises(Interrupted):
        age.decrypt(stop, len, [IDENTITY], target="tests", name="one.age")
    with pytest.raises(Interrupted):
        age.encrypt((stop(1) for _ in "x"), len, [IDENTITY.to_public()])
    with pytest.raises(Interrupted):
        age.decrypt(io.BytesIO(encrypt(b"x")).read, stop, [IDENTITY], target="tests", name="one.age")


def create_key_pair(kind, folder):
    """Return a recipient and the file with its identity."""
    path = folder / kind
    if kind == "x25519":
        path.write_text(f"# mine\n\n{IDENTITY}\r\n")
        return str(IDENTITY.to_public()), path
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text().strip(), path


@needs_age
@pytest.mark.parametrize("kind", ["x25519", "ed25519", pytest.param("rsa", marks=pytest.mark.slow)])
def test_age_command_and_dbctl_are_compatible(tmp_path, kind):
    text = os.urandom(CHUNK + 7)
    recipient, identity = create_key_pair(kind, tmp_path)
    encrypted = encrypt(text, recipients=[age.parse_recipient(recipient, "here")])
    process = subprocess.run(["age", "-d", "-i", identity], input=encrypted, capture_output=True, check=True)
    assert process.stdout == text
    identities = age.parse_identities(identity.read_bytes(), str(identity), fail_on_passphrase)
    for options in ([], ["--armor"]):
        process_output = subprocess.run(
            ["age", "-r", recipient, *options], input=text, capture_output=True, check=True
        )
        assert decrypt(process_output.stdout, *identities) == text


@pytest.mark.slow
@needs_age
def test_age_command_accepts_generated_key(tmp_path):
    key = age.generate_key(Secret("of the sea"))
    (tmp_path / "key.age").write_bytes(key.file)
    (tmp_path / "one.age").write_bytes(
        encrypt(b"here", recipients=[age.parse_recipient(key.recipient, "here")])
    )
    run = pexpect.spawn("age", ["-d", "-i", "key.age", "one.age"], cwd=str(tmp_path), timeout=60)
    run.expect("passphrase")
    run.sendline("of the sea")
    run.expect("here")
    run.expect(pexpect.EOF)
    run.close()
    assert run.exitstatus == 0


@pytest.mark.slow
def test_protected_key_requires_its_passphrase():
    key = age.generate_key(Secret("of the sea"))
    prompts = []

    def enter_passphrase(place):
        prompts.append(place)
        return Secret("of the sea")

    (identity,) = age.parse_identities(key.file, "key.age", enter_passphrase)
    assert (prompts, str(identity.to_public())) == (["key.age"], key.recipient)
    assert b"SECRET" not in key.file
    wrong = catch_error(
        KeyWrongError, lambda: age.parse_identities(key.file, "key.age", lambda _: Secret("of the see"))
    )
    assert "of the se" not in f"{wrong} {wrong.hint}"
    changed_code = re.sub(rb"\n--- .{4}", b"\n--- AAAA", key.file, count=1)
    for damaged in (key.file[:-1], key.file[:40], key.file + b"x", changed_code):
        catch_error(
            KeyInvalidError,
            lambda damaged=damaged: age.parse_identities(damaged, "key.age", enter_passphrase),
        )


@pytest.mark.slow
def test_work_of_a_passphrase_does_not_depend_on_the_machine():
    key = age.generate_key(Secret("of the sea"))
    assert re.fullmatch(rb"-> scrypt [\w+/]{22} 18", key.file.split(b"\n")[1])


@pytest.mark.usefixtures("little_work")
@pytest.mark.parametrize("content", [b"", b"x" * (CHUNK + 1)], ids=["empty", "two-chunks"])
def test_only_the_passphrase_of_a_file_decrypts_it(content):
    file = age_passphrase.encrypt(content, Secret("die Küste"))
    assert age_passphrase.decrypt(file, "one.age", Secret("die Küste")) == content
    error = catch_error(KeyWrongError, lambda: age_passphrase.decrypt(file, "one.age", Secret("die Kuste")))
    assert str(error) == "cannot decrypt one.age: the passphrase is wrong"


@pytest.mark.slow
def test_file_of_pyrage_with_a_passphrase_is_decrypted_in_both_formats():
    content = os.urandom(CHUNK + 1)
    armored = pyrage.passphrase.encrypt(content, "die Küste", armored=True)  # with the work of a second
    binary = base64.b64decode(b"".join(armored.splitlines()[1:-1]))
    assert binary.startswith(b"age-encryption.org/v1\n-> scrypt ")
    for file in (armored, binary):
        assert age_passphrase.decrypt(file, "one.age", Secret("die Küste")) == content


@pytest.mark.usefixtures("little_work")
@pytest.mark.parametrize("byte", [b"_", b"=", b"\0", b"\xff", b" ", b"9"])
def test_key_with_a_changed_byte_is_refused(byte):
    key = age.generate_key(Secret("sesame")).file
    age.parse_identities(key, "key.age", lambda _: Secret("sesame"))
    for position in range(len(key)):
        changed = key[:position] + byte + key[position + 1 :]
        if changed != key:
            with pytest.raises((KeyInvalidError, KeyWrongError)):
                age.parse_identities(changed, "key.age", lambda _: Secret("sesame"))


def replace_work(file, work):
    return re.sub(rb"(-> scrypt \S+) [0-9]+", rb"\1 %d" % work, file, count=1)


@pytest.mark.usefixtures("little_work")
def test_key_with_excessive_work_factor_is_refused():
    bomb = replace_work(age.generate_key(Secret("x")).file, 23)
    error = catch_error(KeyInvalidError, lambda: age.parse_identities(bomb, "key.age", lambda _: Secret("x")))
    assert "more work" in str(error)


#: Decrypts a key, and creates one, with little memory, and prints the errors.
DECRYPT_WITHOUT_MEMORY = """
import resource
from pathlib import Path
from dbctl.errors.base import DbctlError
from dbctl.files import age
from dbctl.model import Secret
steps = [
    (1 << 30, lambda: age.parse_identities(Path("key.age").read_bytes(), "key.age", lambda _: Secret("x"))),
    (1 << 28, lambda: age.generate_key(Secret("x"))),
]
for limit, step in steps:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        step()
    except DbctlError as error:
        print(error)
"""


@pytest.mark.usefixtures("little_work")
def test_passphrase_that_needs_more_memory_than_there_is_is_refused(tmp_path):
    (tmp_path / "key.age").write_bytes(replace_work(age.generate_key(Secret("x")).file, 21))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", DECRYPT_WITHOUT_MEMORY]
    run = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        f"{place}: its passphrase requires {size} MB of memory, which this machine does not have free"
        for place, size in (("key.age", "2,048"), ("a new key", "256"))
    ]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "contains no identity"),
        (b"# public key: age1abc\n\n", "contains no identity"),
        (b"AGE-SECRET-KEY-1QQQ\n", "line 1: not an identity"),
        (b"\xff\xfe\x00", "line 1: not an identity"),
        (b"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\n", "line 1: not an identity"),
        (f"{OTHER_IDENTITY}\njunk {OTHER_IDENTITY}\n".encode(), "line 2: not an identity"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\njunk\n", "not an SSH key"),
    ],
)
def test_invalid_identity_is_refused_and_not_printed(raw, reason):
    error = catch_error(KeyInvalidError, lambda: age.parse_identities(raw, "id.txt", lambda _: Secret("x")))
    assert reason in str(error)
    assert str(OTHER_IDENTITY) not in f"{error} {error.hint}"
    assert error.exit_status == 2


def test_file_encrypted_for_recipients_is_not_an_identity():
    error = catch_error(
        KeyInvalidError, lambda: age.parse_identities(encrypt(b"x"), "id.age", lambda _: Secret("x"))
    )
    assert "encrypted for recipients" in str(error)


@needs_ssh
def test_protected_ssh_key_is_refused(tmp_path):
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "sesame", "-f", path], check=True)
    error = catch_error(
        KeyInvalidError, lambda: age.parse_identities(path.read_bytes(), "key", fail_on_passphrase)
    )
    assert "a passphrase protects this SSH key" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "age1xyz",
        "ssh-ed25519 AAAA",
        "ssh-dss AAAA",
        str(IDENTITY),
        f"{IDENTITY.to_public()}x",
        "age1pq1qqqq",
    ],
)
def test_invalid_recipient_is_refused_and_not_printed(text):
    error = catch_error(KeyInvalidError, lambda: age.parse_recipient(text, "recipient 1 of shop"))
    assert str(error).startswith("recipient 1 of shop: ")
    assert str(IDENTITY) not in f"{error} {error.hint}"
