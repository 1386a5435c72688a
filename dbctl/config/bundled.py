"""Locate the data files of the package: completions, man pages and migrations."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def bundled_folder(name: str) -> Path:
    """Return the folder ``name`` (``completions``, ``man`` or ``migrations``) of the wheel, or of the checkout."""
    inside = _PACKAGE / "_data" / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
