"""The layout of generated JSON files: one line for each definition of a schema, section of a profile or group of commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def format_definitions(document: Mapping[str, Any]) -> str:
    """Return ``document`` with a line for each entry of the objects in it, so that a diff shows which entry changed."""
    members = [f"{json.dumps(key)}: {_format_member(value)}" for key, value in document.items()]
    return "{\n" + ",\n".join(members) + "\n}\n"


def _format_member(value: Any) -> str:
    if not isinstance(value, dict) or not value:
        return json.dumps(value)
    entries = [f" {json.dumps(key)}: {json.dumps(entry)}" for key, entry in value.items()]
    return "{\n" + ",\n".join(entries) + "\n}"
