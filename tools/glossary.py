"""Check names and prose against the glossary (``python -m tools.glossary [PATH…]``).

Without arguments it checks every file of the project. The rules are the tables of ``docs/design/glossary.md``.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
GLOSSARY = ROOT / "docs/design/glossary.md"
FOLDERS = ("benchmarks", "dbctl", "docs", "migrations", "tests", "tools")

CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
IDENTIFIER = re.compile(r"[^\W\d]\w*")
CODE = re.compile(r"```.*?```|``.+?``|`[^`]+`|\]\([^)]*\)|https?://\S+", re.DOTALL)
PYTHON = re.compile(
    r"""(?P<comment>\#[^\n]*)|(?P<block>(?P<quote>\"{3}|'{3})(?:\\.|[^\\])*?(?P=quote))|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""",
    re.DOTALL,
)
SQL = re.compile(r"(?P<comment>--[^\n]*|/\*.*?\*/)|'(?:''|[^'])*'", re.DOTALL)
SENTENCE = re.compile(r"\w \w.* \w", re.DOTALL)  #: a string with fewer words is a name or a key


class Violation(NamedTuple):
    """A word of a file that the glossary replaces."""

    path: str
    line: int
    word: str
    replacement: str
    name: str = ""  #: the identifier that contains the word

    def __str__(self) -> str:
        name = f" (in {self.name})" if self.name not in ("", self.word) else ""
        return f"{self.path}:{self.line}: {self.word}{name} -> {self.replacement}"


@dataclass(frozen=True)
class Rules:
    """The tables of the glossary: each word in lower case, with its standard term."""

    names: Mapping[str, str]
    parts: Mapping[str, str]
    name_exceptions: frozenset[str]
    words: Mapping[str, str]
    word: re.Pattern[str]
    word_exception: re.Pattern[str] | None

    def check_name(self, name: str) -> tuple[str, str] | None:
        """Return the part of an identifier that is not used, and its standard term."""
        if name in self.name_exceptions:
            return None
        whole = name.strip("_").lower()
        if whole in self.names:
            return whole, self.names[whole]
        parts = (part.lower() for part in CAMEL.findall(name))
        return next(((part, self.parts[part]) for part in parts if part in self.parts), None)

    def check_prose(self, text: str) -> Iterator[tuple[int, str, str]]:
        """Yield the offset, the word and the standard term of each word of a text that is not used."""
        matches = list(self.word.finditer(text))
        if not matches:
            return
        masked = CODE.sub(_mask, text)
        if self.word_exception:
            masked = self.word_exception.sub(_mask, masked)
        for match in self.word.finditer(masked):
            word = " ".join(match[0].lower().split())
            yield match.start(), word, self.words[word]


def _mask(match: re.Match[str]) -> str:
    """Return as many spaces as the match is long, so that offsets and line numbers stay."""
    return re.sub(r"[^\n]", " ", match[0])


def _read_table(text: str, heading: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the table below a heading."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    for row in rows[2:]:
        yield [cell.strip() for cell in row.strip("|").split("|")]


def _quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _pattern(phrases: Iterator[str]) -> re.Pattern[str]:
    alternatives = sorted((phrase.replace(" ", r"\s+") for phrase in phrases), key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(alternatives)})\b", re.IGNORECASE)


@cache
def read_rules() -> Rules:
    """Return the rules of the glossary."""
    text = GLOSSARY.read_text(encoding="utf-8")
    names: dict[str, dict[str, str]] = {"name": {}, "part": {}}
    name_exceptions: set[str] = set()
    for cells in _read_table(text, "Names"):
        names[cells[1]].update(dict.fromkeys(_quoted(cells[0]), cells[3]))
        name_exceptions.update(_quoted(cells[2]))
    words: dict[str, str] = {}
    exceptions: list[str] = []
    for cells in _read_table(text, "Words"):
        words.update(dict.fromkeys(_quoted(cells[0]), cells[2]))
        exceptions += _quoted(cells[1])
    return Rules(
        names=names["name"],
        parts=names["part"],
        name_exceptions=frozenset(name_exceptions),
        words=words,
        word=_pattern(iter(words)),
        word_exception=_pattern(iter(exceptions)) if exceptions else None,
    )


def list_files() -> list[str]:
    """Return the files that the glossary covers, as paths below the root of the project."""
    paths = [*ROOT.glob("*.md"), ROOT / "pyproject.toml"]
    for folder in FOLDERS:
        paths += (
            path for suffix in ("py", "md", "toml", "sql") for path in (ROOT / folder).rglob(f"*.{suffix}")
        )
    return sorted(path.relative_to(ROOT).as_posix() for path in paths if path != GLOSSARY)


def check_file(path: str) -> Iterator[Violation]:
    """Yield the violations of a file, those that are cheap to find first."""
    rules = read_rules()
    text = (ROOT / path).read_text(encoding="utf-8")
    for start, prose in _read_prose(path, text):
        for offset, word, term in rules.check_prose(prose):
            yield Violation(path, text.count("\n", 0, start + offset) + 1, word, term)
    if path.endswith(".py"):
        yield from _check_code(path, text, rules)


def _read_prose(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield the offset and the text of comments and docstrings; a page of documentation is prose as a whole."""
    if path.endswith(".md"):
        yield 0, text
        return
    end = 0  # of the last comment or string
    before = ""  # the last character of code
    for match in (SQL if path.endswith(".sql") else PYTHON).finditer(text):
        between = text[end : match.start()].rstrip(" \n")
        before = between[-1:] or before
        end = match.end()
        if match["comment"]:
            yield match.start(), match[0]
            continue
        if path.endswith(".py") and match["block"] and before in ("", ":"):
            yield match.start(), match[0]
        before = '"'


def _check_code(path: str, text: str, rules: Rules) -> Iterator[Violation]:
    """Yield the violations among the names that a module defines, and in its messages."""
    # Strings of tests are data: what they send to a database, or expect in an output.
    messages = not path.startswith("tests/")
    strings = [match[0] for match in PYTHON.finditer(text) if not match["comment"]]
    names = set(IDENTIFIER.findall(PYTHON.sub(_leave_formatted, text)))
    # Parsing takes most of the time, and few files have such a name or string.
    if not any(map(_has_replacement, names)) and not (messages and any(map(rules.word.search, strings))):
        return
    no_messages = set()  # docstrings
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr):
            no_messages.add(id(node.value))
        elif isinstance(node, ast.Constant):
            value = node.value
            if messages and isinstance(value, str) and id(node) not in no_messages and SENTENCE.search(value):
                for offset, word, term in rules.check_prose(value):
                    yield Violation(path, node.lineno + value.count("\n", 0, offset), word, term)
        elif (name := _defined_name(node)) and (result := rules.check_name(name)):
            yield Violation(path, node.lineno, *result, name)  # type: ignore[attr-defined]


@cache
def _has_replacement(name: str) -> bool:
    """Whether an identifier is not used; most are in many files."""
    return read_rules().check_name(name) is not None


def _leave_formatted(match: re.Match[str]) -> str:
    """Return a string that can contain code, and nothing for other strings and for comments."""
    return match[0] if match.string[match.start() - 1 : match.start()] in {"f", "F"} else " "


def _defined_name(node: ast.AST) -> str | None:
    """Return the name that a node defines."""
    field = _NAME_FIELDS.get(type(node))
    if field is None or (isinstance(node, ast.Name | ast.Attribute) and not isinstance(node.ctx, ast.Store)):
        return None
    name: str | None = getattr(node, field)
    return name


#: The field of each type of node with the name that it defines.
_NAME_FIELDS: Mapping[type[ast.AST], str] = {
    **dict.fromkeys((ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler), "name"),
    **dict.fromkeys((ast.MatchAs, ast.MatchStar), "name"),
    ast.Name: "id",
    ast.Attribute: "attr",
    ast.arg: "arg",
    ast.alias: "asname",
}


def main(arguments: list[str]) -> int:
    """Print the violations of the files, and how many of each word there are; return 1 if there are any."""
    violations = [violation for path in arguments or list_files() for violation in check_file(path)]
    for violation in violations:
        print(violation)  # noqa: T201
    counts = Counter(violation.word for violation in violations)
    print(", ".join(f"{word} {count}" for word, count in counts.most_common()))  # noqa: T201
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
