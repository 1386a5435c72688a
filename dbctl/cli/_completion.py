"""``dbctl __complete SHELL SLOT INSERTED WORD…``: print the values that can end the last word.

The completion files run it. It prints nothing if anything fails, and ends with status 0 after ``DEADLINE`` at the latest. Words of bash
are decoded, and the rest of a word is quoted as bash has to read it after an open quote.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_PART = re.compile(
    r"""
    '(?P<single>[^']*)(?P<single_end>'?)
    | "(?P<double>(?:\\.|[^"\\])*)(?P<double_end>"?)
    | \$'(?P<escaped>(?:\\.|[^'\\])*)(?P<escaped_end>'?)
    | \\(?P<character>.)
    | (?P<plain>[^'"\\$]+ | .)
    """,
    re.VERBOSE | re.DOTALL,
)
_QUOTES = {"single": "'", "double": '"', "escaped": "$'"}
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(
    r"\\(?:x(?P<byte>[0-9a-fA-F]{1,2})|u(?P<short>[0-9a-fA-F]{1,4})|U(?P<long>[0-9a-fA-F]{1,8})|(?P<letter>.))",
    re.DOTALL,
)
#: The characters that bash takes literally outside of quotes; ``=`` and ``:`` end a word for readline, but not for bash.
_LITERAL = re.compile(r"[\w@%+=:,./-]", re.ASCII)
#: The characters that stand for bytes which are not UTF-8.
SURROGATES = ("\udc80", "\udcff")


def decode_word(text: str) -> tuple[str, str]:
    """Return the value of a word, or of its beginning, and the quote that is open at its end: empty, ``'``, ``"`` or ``$'``."""
    parts, quote = list[str](), ""
    for match in _PART.finditer(text):
        kind = str(match.lastgroup).removesuffix("_end")
        value = match[kind]
        if kind == "double":
            value = re.sub(r'\\(["\\$`])', r"\1", value)
        elif kind == "escaped":
            value = _ESCAPE.sub(_decode_escape, value)
        parts.append(value)
        quote = _QUOTES[kind] if kind in _QUOTES and not match[f"{kind}_end"] else ""
    return "".join(parts), quote


def _decode_escape(match: re.Match[str]) -> str:
    if match["byte"]:
        return bytes([int(match["byte"], 16)]).decode("utf-8", "surrogateescape")
    if code := match["short"] or match["long"]:
        return chr(min(int(code, 16), 0x10FFFF))
    return _LETTERS.get(match["letter"], match["letter"])


def quote_rest(text: str, quote: str) -> str:
    """Return the rest of a word as bash has to read it after the open ``quote``, without control characters."""
    if quote == "$'":
        return "".join(map(_escape, text))
    return "".join(_quote_character(character, quote) for character in text)


def _quote_character(character: str, quote: str) -> str:
    if not character.isprintable():
        return f"{quote}$'{_escape(character)}'{quote}"
    if quote == "'":
        return "'\\''" if character == "'" else character
    if quote == '"':
        if character == "!":  # within double quotes, bash expands it although it is escaped
            return '"\\!"'
        return f"\\{character}" if character in '"\\$`' else character
    return character if _LITERAL.fullmatch(character) or not character.isascii() else f"\\{character}"


def _escape(character: str) -> str:
    if character in "'\\":
        return f"\\{character}"
    if character.isprintable():
        return character
    if SURROGATES[0] <= character <= SURROGATES[1]:
        return f"\\x{character.encode('utf-8', 'surrogateescape').hex()}"
    code = ord(character)
    return f"\\x{code:02x}" if character.isascii() else f"\\U{code:08x}"


#: Seconds from the start of the request.
DEADLINE = 0.7
#: Events of the interpreter that start a program, such as the command of a secret, which could prompt.
_PROGRAM_EVENTS = ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen")
#: Options of the words before the cursor that change where values are read, by their names on the command line.
_OPTIONS = {
    "--app": "app",
    "--config": "config",
    "--db": "database",
    "--from": "repository",
    "--id": "user_id",
    "--migrations": "migrations",
    "--profile": "profile",
    "--repository": "repository",
    "--url": "url",
    "--user": "user",
}


def complete(arguments: Sequence[str]) -> None:
    """Print the values of one slot: a name a line for bash, names that end with NUL for other shells.

    Args:
        arguments: the shell; ``option:KINDS`` or ``argument:KINDS`` with kinds of ``services.completion``; for bash, what the
            shell replaces of the last word; the words after ``dbctl`` up to the cursor, without quotes except
            for bash, and in fish for the last word.
    """
    output = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # nothing can prompt, and no library writes to the terminal
        os.dup2(null, descriptor)
    sys.addaudithook(_refuse_programs)
    # A thread, because a driver that waits for a server or a disk runs no signal handler.
    threading.Thread(target=_exit_late, daemon=True).start()
    try:
        text = _create_output(*arguments[:3], words=arguments[3:])
    except Exception:  # noqa: BLE001 - without a value, the shell must not show anything
        return
    os.write(output, text.encode("utf-8", "surrogateescape"))


def _refuse_programs(event: str, _arguments: object) -> None:
    if event in _PROGRAM_EVENTS:
        raise PermissionError(event)


def _exit_late() -> None:
    time.sleep(DEADLINE)
    os._exit(0)


def _create_output(shell: str, slot: str, inserted: str, *, words: Sequence[str]) -> str:

    *earlier, last = words
    context, _, kinds = slot.partition(":")
    decoded = [decode_word(word)[0] for word in earlier] if shell == "bash" else earlier
    prefix = last if shell == "zsh" else decode_word(last)[0]
    if context == "option" and prefix.startswith("--"):
        prefix = prefix.partition("=")[2]
    names = [
        name
        for name in _list_names(kinds, decoded, prefix)
        if not name.startswith("-") or context == "option" or "--" in decoded
    ]
    if shell == "bash":
        head = last[: len(last) - len(inserted)]
        skipped, quote = decode_word(head)
        if context == "option" and skipped.startswith("--"):
            skipped = skipped.partition("=")[2]
        rests = (name.removeprefix(skipped) for name in names if name.startswith(skipped))
        return "".join(f"{quote_rest(rest, quote)}\n" for rest in rests)
    #: control characters that the shell quotes
    shown = set(map(chr, range(1, 0x80))) if shell == "zsh" else {"\n"}
    return "".join(f"{name}\0" for name in names if all(c.isprintable() or c in shown for c in name))


def _list_commands(words: Sequence[str], prefix: str) -> Sequence[str]:
    """Return the commands of dbctl, or of the group that the words name: the completion files lack those of other distributions."""
    from dbctl.cli._catalog import read_catalog

    groups = read_catalog().groups
    named = groups.get(" ".join(word for word in words if not word.startswith("-")))
    names = list(groups) if named is None else named.commands
    return [name for name in names if name.startswith(prefix)]


def _list_names(kinds: str, words: Sequence[str], prefix: str) -> Sequence[str]:
    if kinds == "commands":
        return _list_commands(words, prefix)
    from dbctl.config.sections import Selection
    from dbctl.services.completion import NameRequest, list_names

    values = {"app": os.environ.get("DBCTL_APP", "")}
    urls = list[str]()
    for option, value in _read_options(words):
        values[_OPTIONS[option]] = value
        urls += [value] if option == "--url" else []
    selection = Selection(
        config=_expand_home(values.pop("config", "")),
        app=values.pop("app"),
        profile=values.pop("profile", ""),
        urls=urls,
        replica="--replica" in words,
    )
    values.pop("url", None)
    for name in values.keys() & {"migrations", "repository"}:
        values[name] = _expand_home(values[name])
    return list_names(kinds, NameRequest(selection=selection, prefix=prefix, words=words, **values))


def _read_options(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    remaining = iter(words)
    for word in remaining:
        if word == "--":
            return
        name, separator, value = word.partition("=")
        if name in _OPTIONS:
            yield name, value if separator else next(remaining, "")


def _expand_home(text: str) -> str:
    """Expand ``~``, which the shell expands only when it runs the command."""
    return str(Path(text).expanduser()) if text.startswith("~") else text
