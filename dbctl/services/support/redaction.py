"""Replace everything in a configuration that is not known to be harmless."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dbctl.config.storage import PROVIDERS
from dbctl.profiles import loader
from dbctl.units import is_duration
from dbctl.url import SCHEMES

HIDDEN = "(hidden)"
#: Values of keys with a fixed list of values.
WORDS = frozenset(
    (
        "gzip",
        "zstd",
        "none",
        "gemini",
        "openai",
        "command",
        "local",
        "fastembed",
        "sentence-transformers",
        "off",
        "starttls",
        "implicit",
        *("failed", "recovered", "overdue", "finding", "summary", "info", "warning", "error"),
    )
)
_CRON = re.compile(r"[\d*/,-]+(?: [\d*/,-]+){4}")
#: A declared type without texts, such as the labels of an enumeration.
_TYPE = re.compile(r"[A-Za-z_][\w ]*(?:\(\d+(?:, ?\d+)?\))?[\w ]*(?:\[\])*")
#: Tables whose keys are names that the user chooses.
_NAMED = frozenset(("apps", "secrets", "databases", "replicas", "migrations"))


class Names:
    """Replaces the names that the user chose: ``app-1``, ``database-2``."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._known = {name for profile in loader.names() for name in loader.load(profile).databases} | {
            "main"
        }

    def of(self, kind: str, name: str) -> str:
        """Return the replacement of a name; databases that a built-in profile names are not replaced."""
        if kind == "database" and name in self._known:
            return name
        count = sum(other == kind for other, _ in self._names)
        return self._names.setdefault((kind, name), f"{kind}-{count + 1}")

    def of_target(self, target: str) -> str:
        """Return the replacement of ``app/database``; other targets, such as paths, are hidden."""
        app, _, database = target.rpartition("/") if "/" in target else (target, "", "")
        if ("app", app) not in self._names:
            return HIDDEN
        return f"{self.of('app', app)}/{self.of('database', database)}" if database else self.of("app", app)


def redact_configuration(value: object, names: Names, key: str = "") -> object:
    """Return the values of a configuration; texts remain only if they are durations, schedules or fixed words."""
    if isinstance(value, Mapping):
        kind = {"apps": "app", "secrets": "secret"}.get(key, "database")
        return {
            names.of(kind, name) if key in _NAMED else name: redact_configuration(
                item,
                names,
                "" if key in _NAMED and isinstance(item, Mapping) else "databases" if key in _NAMED else name,
            )
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [redact_configuration(item, names, key) for item in value]
    if isinstance(value, str):
        return _redact_text(value, key)
    return value if isinstance(value, (bool, int, float)) else HIDDEN


def _redact_text(value: str, key: str) -> str:
    if key == "profile":
        return value if value in loader.names() else HIDDEN
    if key in ("databases", "url", "scratch", "repository"):
        return _describe_address(value)
    is_plain = value in WORDS or is_duration(value) or _CRON.fullmatch(value)
    return value if is_plain or not value else HIDDEN


def _describe_address(value: str) -> str:
    """Return the scheme of an address, or that it is a variable or a path."""
    scheme, separator, _ = value.partition("://")
    if separator:
        return f"{scheme}://{HIDDEN}" if scheme in SCHEMES or scheme in PROVIDERS else HIDDEN
    return "${" + HIDDEN + "}" if value.startswith("${") else f"path {HIDDEN}"


def redact_type(text: str) -> str:
    """Return a declared type without the texts that it may contain."""
    return text if _TYPE.fullmatch(text) else f"{re.split(r'[^A-Za-z_]', text, maxsplit=1)[0]}({HIDDEN})"
