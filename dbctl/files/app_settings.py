"""Read the settings of an app from its own file: ``.env``, PHP, Python or JSON. No code of the app is executed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath

#: Joins the keys of nested settings: ``DATABASES__default__NAME``.
SEPARATOR = "__"

#: The grammar of the library dotenv: a quoted value may span lines; without quotes a ``#`` ends the value.
_ENV_LINE = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?(?P<name>[\w.-]+)(?:[ \t]*=|:[ \t])[ \t]*
    (?P<value>'(?:\\'|[^'])*'|"(?:\\"|[^"])*"|`(?:\\`|[^`])*`|[^#\r\n]*)?[ \t]*(?:\#.*)?$""",
    re.MULTILINE | re.VERBOSE,
)

#: A string without end extends to the end of the file, so that hostile text needs linear time.
_PHP_STRING = r"""(?:'(?:[^'\\]|\\(?:.|\Z))*+(?:'|\Z)|"(?:[^"\\]|\\(?:.|\Z))*+(?:"|\Z))"""
#: A string in double quotes without variables. Before 3.11.5, Python's ``*+`` accepts an alternative that matched in part, here ``$`` of ``$name``.
_PHP_PLAIN = re.compile(r'(?:[^\\$]|\\[nrt$"\\]|\$(?![\w{]))*')
#: ``define('NAME', value)``, ``'NAME' => value`` and ``$NAME = value``. Comments and other texts are matched to be skipped.
_PHP_SETTING = re.compile(
    rf"""/\*.*?(?:\*/|\Z) | (?://|\#)[^\n]*
    | (?: define \s* \( \s* (?P<constant>{_PHP_STRING}) \s* , | (?P<key>{_PHP_STRING}) \s* => | \$(?P<variable>\w+) \s* = )
      \s* (?: (?P<text>{_PHP_STRING}) | (?P<word>-?[\w.]+) ) \s* (?= [,;)\]] )
    | {_PHP_STRING}""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_PHP_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "$": "$", '"': '"', "\\": "\\"}


def parse_settings(name: str, text: str) -> Mapping[str, str]:
    """Return the settings of the file ``name`` with literal values; the last of several with the same name is used.

    Raises:
        ValueError: the file is not valid Python or JSON.
    """
    parse = _PARSERS.get(PurePath(name).suffix, _parse_env)
    return dict(parse(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")))


def _parse_env(text: str) -> Iterator[tuple[str, str]]:
    for line in _ENV_LINE.finditer(text):
        value = (line["value"] or "").strip()
        quoted = len(value) > 1 and value[0] in "'\"`" and value[-1] == value[0]
        plain = value[1:-1] if quoted else value
        if quoted and value[0] == '"':
            plain = plain.replace("\\n", "\n").replace("\\r", "\r")
        yield line["name"], plain


def _parse_php(text: str) -> Iterator[tuple[str, str]]:
    for match in _PHP_SETTING.finditer(text):
        name = match["variable"] or _unquote_php(match["constant"] or match["key"] or "")
        value = match["word"] if match["text"] is None else _unquote_php(match["text"])
        if name and value is not None:
            yield name, value


def _unquote_php(literal: str) -> str | None:
    """Return the text of a literal; None if it contains a variable or another escape."""
    inner = literal[1:-1]
    if literal.startswith("'"):
        return re.sub(r"\\(['\\])", r"\1", inner)
    if not _PHP_PLAIN.fullmatch(inner):
        return None
    return re.sub(r"\\(.)", lambda match: _PHP_ESCAPES[match[1]], inner, flags=re.DOTALL)


def _parse_json(text: str) -> Iterator[tuple[str, str]]:
    import json

    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not valid JSON") from error
    return _flatten(content, [])


def _flatten(value: object, path: list[str]) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(item, [*path, str(key)])
    elif isinstance(value, (str, int, float)) and path:
        yield SEPARATOR.join(path), str(value)


def _parse_python(text: str) -> Iterator[tuple[str, str]]:
    import ast

    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError("it is not valid Python") from error
    for statement in module.body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    yield from _flatten(_to_literals(statement.value), [target.id])


def _to_literals(node: object) -> object:
    """Return the value of a literal, and of a dictionary its literals; None for expressions."""
    import ast

    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Dict):
        return {
            key.value: _to_literals(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant)
        }
    return None


_PARSERS = {".php": _parse_php, ".json": _parse_json, ".py": _parse_python}
