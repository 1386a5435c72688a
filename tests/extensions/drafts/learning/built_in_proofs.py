"""The proofs in the built-in profiles: the tests compare them with what ``profiles prove`` writes, and ``make proofs`` stores that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dbctl.files import toml
from dbctl.profiles.loader import BUILTIN

#: The variable by which the tests write the proofs instead of comparing them.
WRITE = "DBCTL_WRITE_PROOFS"


def read_proofs(path: Path, engine: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the proofs of a profile on one engine, by action, without the day of the replay."""
    proofs = toml.loads(path.read_text()).get("proven", {}).get(engine, {})
    return {
        action: {name: value for name, value in proof.items() if name != "at"}
        for action, proof in proofs.items()
    }


def check_proofs(copy: Path, engine: str) -> None:
    """Compare the proofs of a built-in profile on one engine with those of its copy, which ``profiles prove`` has written."""
    path = BUILTIN / copy.name
    if os.environ.get(WRITE) and read_proofs(copy, engine) != read_proofs(path, engine):
        path.write_text(copy.read_text())
    assert read_proofs(copy, engine) == read_proofs(path, engine), describe_renewal(copy.stem)


def describe_renewal(app: str) -> str:
    """Return the command that writes the proofs of a built-in profile again."""
    return f"make proofs ARGS='-k {app}'"
