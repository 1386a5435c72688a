"""Tables in markup languages: cells are shown as their text, and are never interpreted as markup."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from dbctl.render.streams import Format
from dbctl.render.text import escape

#: Characters that a wiki may interpret; a minus is one only next to a word.
_WIKI_MARKUP = re.compile(r"[!-+;-?\[-`{-~]|(?<![0-9A-Za-z])-|-(?![0-9A-Za-z])|\.(?=\.)")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "[": "{[}", "]": "{]}", '"': r"\textquotedbl{}",
}  # fmt: skip
#: The beginnings of lists, directives, comments and other blocks of reStructuredText.
_RST_BLOCK = re.compile(r"\w+[.)]|[^\w\s\\]")


def _markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _wiki(text: str) -> str:
    return _WIKI_MARKUP.sub(lambda match: f"&#{ord(match[0])};", text)


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub("-(?=-)", "-{}", escaped)  # two are no dash


def _rst(text: str) -> str:
    text = re.sub(r"([\\*`|_]|:(?=:))", r"\\\1", text.strip())
    return "\\" + text if _RST_BLOCK.match(text) else text


def _unchanged(text: str) -> str:
    return text


#: The name of each format in tabulate, and the function that escapes a cell; tabulate itself escapes HTML.
MARKUPS: Mapping[Format, tuple[str, Callable[[str], str]]] = {
    Format.MARKDOWN: ("pipe", _markdown),
    Format.HTML: ("html", _unchanged),
    Format.RST: ("rst", _rst),
    Format.ASCIIDOC: ("asciidoc", _wiki),
    Format.MEDIAWIKI: ("mediawiki", _wiki),
    Format.JIRA: ("jira", _wiki),
    Format.LATEX: ("latex_raw", _latex),
    Format.TEXTILE: ("textile", _wiki),
    Format.PSQL: ("psql", _unchanged),
    Format.BOX: ("simple_outline", _unchanged),
}


def format_table(names: Sequence[str], rows: Sequence[Sequence[str]], output: Format) -> str:
    """Return a table with a header; control characters are escaped as in other formats."""
    from tabulate import tabulate

    table_format, escape_cell = MARKUPS[output]
    header, *cells = [[escape_cell(escape(cell)) for cell in row] for row in (names, *rows)]
    return tabulate(cells, headers=header, tablefmt=table_format, disable_numparse=True)
