"""Files in the age format, which the ``age`` command opens too: encrypted and decrypted in blocks, however large they are.

pyrage reads and writes through objects of Python. It wraps what they raise into errors of its own, and drops what the
last write raises (1.4), so both keep what was raised, and it is raised once pyrage has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from dbctl.errors import CorruptError, DriverMissingError, KeyInvalidError, KeyWrongError
from dbctl.model import Secret, Value

#: What the names of encrypted files end in.
ENDING = ".age"
#: How the files begin: the format itself, and its form for text.
MAGIC = (b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----")
#: A recipient and an identity, as pyrage holds them.
Recipient: TypeAlias = object
Identity: TypeAlias = object
Write: TypeAlias = Callable[[bytes], int]

PRIVATE = b"-----BEGIN "
#: Messages of pyrage about keys; all others mean damage.
NOT_FOR_US = "it was not encrypted for any identity at hand"
NO_MATCH, NOT_THIS_PASSPHRASE, TOO_MUCH_WORK = "No matching keys", "Decryption failed", "Excessive work"
A = TypeVar("A")


class MadeKey(Value, frozen=True, kw_only=True):
    """A new identity that a passphrase protects."""

    recipient: str
    file: bytes  #: an identity file as ``age --passphrase`` makes it


def recipient_problem(text: str) -> str:
    """Return what is wrong with the form of a recipient, without a word of what may be a secret; empty: nothing."""
    if text.startswith("AGE-"):
        return "it is a secret key, which belongs into a file of its own; age-keygen -y prints its recipient"
    if not text.startswith(("age1", "ssh-ed25519 ", "ssh-rsa ")):
        return "a recipient begins with age1, ssh-ed25519 or ssh-rsa"
    return ""


def recipient(text: str, place: str) -> Recipient:
    """Read a recipient: ``age1…``, or the public key of ssh; ``place`` is its source, for messages.

    Raises:
        KeyInvalidError: it is none.
        DriverMissingError: pyrage is not installed.
    """
    pyrage, problem = _pyrage(), recipient_problem(text)
    if not problem:
        try:
            result: Recipient = (
                pyrage.x25519.Recipient.from_str(text)
                if text.startswith("age1")
                else pyrage.ssh.Recipient.from_str(text)
            )
        except pyrage.RecipientError:
            problem = "it is mistyped, or of a kind that is not known here"
        else:
            return result
    raise KeyInvalidError(place=place, reason=problem)


def identities(raw: bytes, place: str, passphrase: Callable[[str], Secret]) -> list[Identity]:
    """Read an identity file: identities of age line by line, a key of ssh, or one of age that a passphrase protects.

    Args:
        raw: what it holds.
        place: how messages call it.
        passphrase: called with the place, returns the passphrase that protects the file.

    Raises:
        KeyInvalidError: it is none, or one that cannot be used here.
        KeyWrongError: the passphrase is not the one.
        DriverMissingError: pyrage is not installed.
    """
    if raw.startswith(MAGIC):
        raw = _opened(raw, place, passphrase(place))
    pyrage = _pyrage()
    if raw.startswith(PRIVATE):
        try:
            return [pyrage.ssh.Identity.from_buffer(raw)]
        except pyrage.IdentityError as error:
            protected = "decrypted first" in str(error)
            reason = (
                "a passphrase protects this key of ssh, and only the age command can ask for that one"
                if protected
                else "it is no key of ssh that age can use (ed25519, rsa)"
            )
            raise KeyInvalidError(place=place, reason=reason) from None
    result = list[Identity]()
    for number, line in enumerate(raw.decode(errors="replace").splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            try:
                result.append(pyrage.x25519.Identity.from_str(text))
            except pyrage.IdentityError:
                raise KeyInvalidError(place=f"{place}, line {number}", reason="it is no identity") from None
    if not result:
        raise KeyInvalidError(place=place, reason="it holds no identity")
    return result


def _opened(raw: bytes, place: str, passphrase: Secret) -> bytes:
    pyrage = _pyrage()
    try:
        opened: bytes = pyrage.passphrase.decrypt(raw, passphrase.reveal())
    except pyrage.DecryptError as error:
        message = str(error)
        if message.startswith(NOT_THIS_PASSPHRASE):
            raise KeyWrongError(file=place, reason="the passphrase is not the one that protects it") from None
        if message.startswith(NO_MATCH):
            raise KeyInvalidError(
                place=place, reason="it is encrypted for recipients, not by a passphrase"
            ) from None
        if message.startswith(TOO_MUCH_WORK):
            raise KeyInvalidError(
                place=place, reason="to open it would take more work than any honest file asks for"
            ) from None
        raise KeyInvalidError(place=place, reason="it is damaged") from None
    return opened


def made_key(passphrase: Secret) -> MadeKey:
    """Generate a new identity, and protect it by a passphrase.

    That takes about a second and 256 MB of memory for a moment, as it is meant to.

    Raises:
        DriverMissingError: pyrage is not installed.
    """
    pyrage = _pyrage()
    identity = pyrage.x25519.Identity.generate()
    text = f"# public key: {identity.to_public()}\n{identity}\n"
    file: bytes = pyrage.passphrase.encrypt(text.encode(), passphrase.reveal())
    return MadeKey(recipient=str(identity.to_public()), file=file)


def encrypt(blocks: Iterable[bytes], write: Write, recipients: Sequence[Recipient]) -> None:
    """Encrypt what comes in blocks, and write it piece by piece; what either raises is raised.

    Raises:
        DriverMissingError: pyrage is not installed.
    """
    pyrage, source, sink = _pyrage(), _Source(_reading(blocks)), _Sink(write)
    complaint = _complaint(lambda: pyrage.encrypt_io(source, sink, list(recipients)), source, sink)
    if complaint:
        raise RuntimeError(complaint)


def decrypt(
    read: Callable[[int], bytes], write: Write, own: Sequence[Identity], *, target: str, name: str
) -> None:
    """Decrypt a file, and write what was in it piece by piece, also where more of it turns out to be damaged.

    Args:
        read: gives the next bytes of the file, at most so many.
        write: takes what was in it.
        own: identities.
        target: ``app/database``, for messages.
        name: of the file.

    Raises:
        KeyWrongError: no identity opens it.
        CorruptError: it is cut off, was changed, or is no file of age.
        DriverMissingError: pyrage is not installed.
    """
    pyrage, source, sink = _pyrage(), _Source(read), _Sink(write)
    complaint = _complaint(lambda: pyrage.decrypt_io(source, sink, list(own)), source, sink)
    if complaint.startswith(NO_MATCH):
        raise KeyWrongError(file=name, reason=NOT_FOR_US)
    if complaint:
        raise CorruptError(target=target, reason=f"{name}: it is not as age wrote it ({complaint})")


def want() -> None:
    """Look whether what does the work is installed; raises ``DriverMissingError``."""
    _pyrage()


def opens(own: Sequence[Identity], recipients: Sequence[Recipient]) -> bool:
    """Whether one of the identities opens what is encrypted for these recipients."""
    pyrage = _pyrage()
    try:
        pyrage.decrypt(pyrage.encrypt(b"", list(recipients)), list(own))
    except pyrage.DecryptError:
        return False
    return True


def _pyrage() -> Any:
    try:
        import pyrage
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise DriverMissingError(
            target="backups in the age format", driver="pyrage", extra="encryption", reason=reason
        ) from error
    return pyrage


class _Source:
    """What pyrage reads from."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read, self.failure = read, list[BaseException]()

    def read(self, size: int) -> bytes:
        return _keeping(self.failure, lambda: self._read(size))


class _Sink:
    """What pyrage writes to."""

    def __init__(self, write: Write) -> None:
        self._write, self.failure = write, list[BaseException]()

    def write(self, block: bytes) -> int:
        return _keeping(self.failure, lambda: self._write(block))

    def flush(self) -> None:
        """Nothing is held back here."""


def _keeping(failure: list[BaseException], call: Callable[[], A]) -> A:
    if failure:
        raise OSError("it failed before")
    try:
        return call()
    except BaseException as error:  # also a signal: pyrage would make an error of its own of it
        failure.append(error)
        raise


def _complaint(call: Callable[[], object], source: _Source, sink: _Sink) -> str:
    """Return what pyrage complains of, empty where all went well; raise what reading or writing raised."""
    pyrage, message = _pyrage(), ""
    try:
        call()
    except (pyrage.EncryptError, pyrage.DecryptError, OSError) as error:
        message = " ".join(str(error).split())
    finally:
        for failure in (*source.failure, *sink.failure):
            raise failure
    return message


def _reading(blocks: Iterable[bytes]) -> Callable[[int], bytes]:
    """Return what gives blocks out in pieces of any size."""
    coming, left = iter(blocks), memoryview(b"")

    def read(size: int) -> bytes:
        nonlocal left
        while not left:
            block = next(coming, None)
            if block is None:
                return b""
            left = memoryview(block)
        piece, left = left[:size], left[size:]
        return bytes(piece)

    return read
