"""A format of password hashes, and what all formats share: costs, salts, bcrypt and Argon2."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import TypeAlias

from dbctl.model import Struct

#: The named groups of a hash: parameters of its prefix, ``salt`` and ``hash``.
Parts: TypeAlias = Mapping[str, str]

#: bcrypt ignores further bytes, so longer passwords are refused.
BCRYPT_BYTES = 72
#: A stored hash that demands more is not computed. Seconds are those of one core of a small server.
MAX_SECONDS, MAX_MEMORY = 8.0, 2**30

LETTERS_64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LETTERS_AND_DIGITS = LETTERS_64[2:]
#: Bytes of a digest, and seconds of one round of PBKDF2 with it.
DIGESTS: Mapping[str, tuple[int, float]] = {"sha1": (20, 3e-7), "sha256": (32, 4.5e-7), "sha512": (64, 7e-7)}


class Cost(Struct, frozen=True):
    """The resources that the computation of a hash demands."""

    seconds: float
    memory: int = 0  #: bytes

    @property
    def is_accepted(self) -> bool:
        """Whether dbctl computes such a hash."""
        return self.seconds <= MAX_SECONDS and self.memory <= MAX_MEMORY


class PasswordFormat(Struct, frozen=True, kw_only=True):
    """One format: patterns of its text, and functions of the parts of a hash."""

    prefix: str  #: regular expression of the prefix; empty: hashes have none, and the name of the format replaces it
    rest: str  #: regular expression of salt and digest
    cost: Callable[[Parts], Cost]
    compute: Callable[[bytes, Parts], str]  #: the group ``hash`` of a password
    new_salt: Callable[[], str]
    template: str = "{salt}${hash}"  #: the text after the prefix
    #: whether the parts are consistent, beyond the patterns; a prefix has no ``hash``
    is_valid: Callable[[Parts], bool] = lambda _parts: True
    max_bytes: int | None = None  #: of a password; the algorithm ignores further bytes, and those after a NUL


def random_text(length: int, letters: str) -> str:
    import secrets

    return "".join(secrets.choice(letters) for _ in range(length))


def random_base64() -> str:
    import secrets

    return b64encode(secrets.token_bytes(16)).decode()


def random_unpadded() -> str:
    return random_base64().rstrip("=")


def random_hex() -> str:
    import secrets

    return secrets.token_hex(16)


# bcrypt ---------------------------------------------------------------------------------------------------------------


def create_bcrypt(
    leading: str, transform: Callable[[bytes], bytes], max_bytes: int | None = None
) -> PasswordFormat:
    """Return the format of bcrypt hashes with a leading text, of transformed passwords."""

    def compute(password: bytes, parts: Parts) -> str:
        import bcrypt

        salt = f"$2{parts['variant']}${parts['rounds']}${parts['salt']}"
        return bcrypt.hashpw(transform(password), salt.encode()).decode()[len(salt) :]

    def new_salt() -> str:
        import bcrypt

        return bcrypt.gensalt(4).decode()[-22:]

    return PasswordFormat(
        prefix=rf"{leading}\$2(?P<variant>[abxy])\$(?P<rounds>0[4-9]|[12]\d|3[01])\$",
        rest=r"(?P<salt>[./A-Za-z0-9]{22})(?P<hash>[./A-Za-z0-9]{31})",
        cost=lambda parts: Cost(6e-5 * 2 ** int(parts["rounds"])),
        compute=compute,
        new_salt=new_salt,
        template="{salt}{hash}",
        max_bytes=max_bytes,
    )


def digest_wordpress(password: bytes) -> bytes:
    import hmac

    # WordPress removes these characters from the password that a user types.
    trimmed = password.strip(b" \t\n\r\0\x0b")
    return b64encode(hmac.digest(b"wp-sha384", trimmed, "sha384"))


def digest_django(password: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(password).hexdigest().encode()


# Argon2 ---------------------------------------------------------------------------------------------------------------


#: Passes and lanes in the order of the reference implementation, or in the alphabetical order of other libraries.
_ARGON2_COSTS = (
    r"(?=(?:p=\d+,)?t=(?P<passes>\d{1,10})[,$])(?=(?:t=\d+,)?p=(?P<lanes>\d{1,2})[,$])"
    r"(?:t=\d{1,10},p=\d{1,2}|p=\d{1,2},t=\d{1,10})"
)


def create_argon2(leading: str) -> PasswordFormat:
    """Return the format of PHC strings of Argon2 with a leading text."""
    return PasswordFormat(
        prefix=rf"{leading}\$argon2(?P<type>id|i|d)\$v=19\$m=(?P<memory>\d{{1,10}}),{_ARGON2_COSTS}\$",
        rest=r"(?P<salt>[A-Za-z0-9+/]{11,64})\$(?P<hash>[A-Za-z0-9+/]{16,128})",
        cost=lambda parts: Cost(
            1.2e-6 * int(parts["memory"]) * int(parts["passes"]), 1024 * int(parts["memory"])
        ),
        compute=_compute_argon2,
        new_salt=random_unpadded,
        is_valid=lambda parts: (
            0 < 8 * int(parts["lanes"]) <= int(parts["memory"])
            and int(parts["passes"]) > 0
            and is_unpadded(parts.get("salt", ""))
            and is_unpadded(parts.get("hash", ""))
        ),
    )


def _compute_argon2(password: bytes, parts: Parts) -> str:
    from argon2.exceptions import HashingError
    from argon2.low_level import Type, hash_secret_raw

    try:
        raw = hash_secret_raw(
            password,
            salt=decode_unpadded(parts["salt"]),
            time_cost=int(parts["passes"]),
            memory_cost=int(parts["memory"]),
            parallelism=int(parts["lanes"]),
            hash_len=len(decode_unpadded(parts["hash"])) if "hash" in parts else 32,
            type=Type[parts["type"].upper()],
        )
    except HashingError as error:  # not enough memory
        from dbctl.errors.users import HashExpensiveError

        raise HashExpensiveError(format="argon2") from error
    return encode_unpadded(raw)


def encode_unpadded(data: bytes) -> str:
    return b64encode(data).decode().rstrip("=")


def decode_unpadded(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4))


def is_unpadded(text: str) -> bool:
    """Return whether the length is possible for base64 without padding."""
    return len(text) % 4 != 1
