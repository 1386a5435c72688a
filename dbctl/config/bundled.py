"""Where the files are that travel with dbctl but are no Python: completions and migrations."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """Return the folder ``name`` (``completions`` or ``migrations``): of the wheel, or next to the package in a checkout."""
    inside = _PACKAGE / "_data" / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
