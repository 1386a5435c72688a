"""Password hashes by the libraries of the applications, or as the applications compute them."""

from __future__ import annotations

import hashlib

import argon2
import bcrypt
from django.conf import settings
from django.contrib.auth import hashers
from werkzeug import security

SALT = "4571430df544de5d10033f0788162d26"


def create_hash(prefix: str, password: str) -> str:
    """Return the hash of a password with low cost, in the format of a prefix of new hashes; empty: salted SHA-1 of Redmine."""
    if prefix.startswith("$argon2"):
        return argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(password)
    if prefix.startswith("pbkdf2_sha256"):
        _configure_django()
        return hashers.PBKDF2PasswordHasher().encode(password, "salt", 1000)
    if prefix.startswith("scrypt:"):
        return security.generate_password_hash(password, "scrypt:1024:8:1")
    if prefix.startswith("$2"):
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        return prefix[:4] + hashed[4:]
    inner = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest()
    return hashlib.sha1((SALT + inner).encode(), usedforsecurity=False).hexdigest()


def accepts(password: str, stored: str) -> bool:
    """Return whether the library of the application accepts a password."""
    if stored.startswith("$argon2"):
        return argon2.PasswordHasher().verify(stored, password)
    if stored.startswith("pbkdf2_sha256"):
        _configure_django()
        return hashers.check_password(password, stored)
    if stored.startswith("scrypt:"):
        return security.check_password_hash(stored, password)
    return bcrypt.checkpw(password.encode(), b"$2b$" + stored.encode()[4:])


def _configure_django() -> None:
    if not settings.configured:
        settings.configure(PASSWORD_HASHERS=["django.contrib.auth.hashers.PBKDF2PasswordHasher"])
