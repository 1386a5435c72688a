"""Password hashes by the libraries of the applications."""

from __future__ import annotations

import argon2
import bcrypt


def create_hash(format: str, password: str, prefix: bytes = b"2b") -> str:  # noqa: A002 - the name of the key
    """Return a hash of a password, with low cost."""
    if format == "argon2":
        return argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(password)
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4, prefix)).decode() if format == "bcrypt" else ""


def accepts(format: str, password: str, stored: str) -> bool:  # noqa: A002 - the name of the key
    """Return whether the library accepts a password."""
    if format == "argon2":
        return argon2.PasswordHasher().verify(stored, password)
    return bcrypt.checkpw(password.encode(), stored.encode())
