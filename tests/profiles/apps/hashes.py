"""Password hashes by the libraries of the applications, or as the applications compute them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping

import argon2
import bcrypt
import django
from django.conf import settings
from django.contrib.auth import hashers
from passlib.hash import pbkdf2_sha512
from werkzeug import security

SALT = "4571430df544de5d10033f0788162d26"


def create_hash(prefix: str, password: str) -> str:
    """Return the hash of a password with low cost, in the format of a prefix of new hashes; empty: the app has none."""
    return next((create(prefix, password) for name, create in HASHES.items() if prefix.startswith(name)), "")


def accepts(password: str, stored: str) -> bool:
    """Return whether the library of the application accepts a password."""
    return next(verify(password, stored) for name, verify in VERIFIERS.items() if stored.startswith(name))


def compute_hmac(password: str) -> str:
    """Return what Flask-Security hashes of a password, with the salt as the key."""
    digest = hmac.new(SALT.encode(), password.encode(), "sha512").digest()
    return base64.b64encode(digest).decode()


def _hash_argon2(_prefix: str, password: str) -> str:
    return argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(password)


def _hash_django(_prefix: str, password: str) -> str:
    configure_django()
    return hashers.PBKDF2PasswordHasher().encode(password, "salt", 1000)


def _check_django(password: str, stored: str) -> bool:
    configure_django()
    return hashers.check_password(password, stored)


def _hash_redmine(password: str, salt: str) -> str:
    inner = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest()
    return hashlib.sha1((salt + inner).encode(), usedforsecurity=False).hexdigest()


def _check_redmine(password: str, stored: str) -> bool:
    salt, digest = stored.split("$")
    return len(salt) == len(SALT) and digest == _hash_redmine(password, salt)


def _check_mediawiki(password: str, stored: str) -> bool:
    _, _, _, rounds, _, salt, _ = stored.split(":")
    return stored == _hash_mediawiki(password, base64.b64decode(salt), int(rounds))


def configure_django() -> None:
    """Configure the formats of Django once for all tests of a process."""
    if not settings.configured:
        names = ("PBKDF2", "PBKDF2SHA1", "Argon2", "BCryptSHA256", "Scrypt")
        settings.configure(
            PASSWORD_HASHERS=[f"django.contrib.auth.hashers.{name}PasswordHasher" for name in names]
        )
        django.setup()


def _hash_mediawiki(password: str, salt: bytes, rounds: int) -> str:
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds, 64)
    return f":pbkdf2:sha512:{rounds}:64:{base64.b64encode(salt).decode()}:{base64.b64encode(digest).decode()}"


def _hash_phpass(password: str, prefix: str) -> str:
    """Return the hash of WordPress: MD5, repeated, in groups of three bytes with the lowest six bits first."""
    alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    digest = hashlib.md5(prefix[4:].encode() + password.encode(), usedforsecurity=False).digest()
    for _ in range(1 << alphabet.index(prefix[3])):
        digest = hashlib.md5(digest + password.encode(), usedforsecurity=False).digest()
    text = ""
    for start in range(0, len(digest), 3):
        group = digest[start : start + 3]
        number = int.from_bytes(group, "little")
        text += "".join(alphabet[number >> 6 * index & 63] for index in range(len(group) + 1))
    return prefix + text


HASHES: Mapping[str, Callable[[str, str], str]] = {
    "3|": lambda _, password: f"3|{_hash_argon2('', password)}",
    "$argon2": _hash_argon2,
    "$2": lambda prefix, password: (
        prefix[:4] + bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()[4:]
    ),
    "$P$": lambda _, password: _hash_phpass(password, "$P$5saltsalt"),
    ":pbkdf2": lambda _, password: _hash_mediawiki(password, b"salt", 1000),
    "pbkdf2_sha256": _hash_django,
    "$pbkdf2-sha512": lambda _, password: pbkdf2_sha512.using(rounds=1000).hash(password),
    "redmine-sha1": lambda _, password: _hash_redmine(password, SALT),
    "scrypt:": lambda _, password: security.generate_password_hash(password, "scrypt:1024:8:1"),
}
VERIFIERS: Mapping[str, Callable[[str, str], bool]] = {
    "3|": lambda password, stored: argon2.PasswordHasher().verify(stored[2:], password),
    "$argon2": lambda password, stored: argon2.PasswordHasher().verify(stored, password),
    "$2": lambda password, stored: bcrypt.checkpw(password.encode(), b"$2b$" + stored.encode()[4:]),
    "$P$": lambda password, stored: stored == _hash_phpass(password, stored[:12]),
    ":pbkdf2": _check_mediawiki,
    "pbkdf2_sha256": _check_django,
    "$pbkdf2-sha512": lambda password, stored: bool(pbkdf2_sha512.verify(password, stored)),
    "scrypt:": lambda password, stored: security.check_password_hash(stored, password),
    "": _check_redmine,
}
