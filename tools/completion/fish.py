"""The completion file for fish."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.cli.completions import MARK
from tools.completion.tree import Node, Slot


def render_fish(nodes: Sequence[Node], common: Sequence[Slot]) -> str:
    """Return the file for fish."""
    value_options = [
        name
        for slot in [*common, *(s for node in nodes for s in node.options)]
        if slot.takes_value
        for name in slot.names
    ]
    paths = [f"{node.path} {name}".strip() for node in nodes for name, _ in node.children]
    lines = [
        f"complete -c dbctl -n {_quote(_condition(node, 0))} -f -a {_quote(name)} -d {_quote(text)}"
        for node in nodes
        for name, text in node.children
    ]
    for node in nodes:
        condition = f"-n {_quote(_condition(node))} "
        lines += [_option_line(slot, condition) for slot in node.options]
        lines += [
            f"complete -c dbctl -n {_quote(_condition(node, None if slot.repeatable else index))} "
            + ("-F" if slot.kind == "file" and not slot.live else f"-f -a {_quote(_values_expression(slot))}")
            for index, slot in enumerate(node.arguments)
            if slot.completion
        ]
    lines += [_option_line(slot, "") for slot in common]
    lines += [
        f"complete -c dbctl -n {_quote(_condition(node, 0))} -f -a '(__dbctl_others {' '.join(name for name, _ in node.children)})'"
        for node in nodes
        if node.children and not node.arguments
    ]
    lines += ["complete -c dbctl -n \"__dbctl_at '' 1\" -f -a '(__dbctl_live argument:commands)'"]
    rules = "\n".join(lines)
    return f"""# Completion of dbctl for fish; {MARK}.

function __dbctl_at -d 'Whether the words so far name the command $argv[1], with $argv[2] arguments after it'
    set -l path
    set -l count 0
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if contains -- $word {" ".join(dict.fromkeys(value_options))}
            set skip 1
        else if string match -q -- '-*' $word
            continue
        else if contains -- (string join ' ' $path $word) {" ".join(map(_quote, paths))}
            set -a path $word
        else
            set count (math $count + 1)
        end
    end
    set path (string join ' ' $path)
    test "$path" = "$argv[1]"; or return 1
    test -z "$argv[2]"; or test $count = "$argv[2]"
end

function __dbctl_live -d 'Values of the kinds $argv[1]'
    set -l words (commandline -opc)
    $words[1] __complete fish $argv[1] '' $words[2..-1] (commandline -ct) 2>/dev/null | string split0
end

function __dbctl_others -d 'Commands of other distributions, if the word begins none of $argv'
    string match -q -- (commandline -ct)'*' $argv; or __dbctl_live argument:commands
end

complete -c dbctl -f
{rules}
"""


def _condition(node: Node, argument: int | None = None) -> str:
    return f"__dbctl_at {_quote(node.path)}" + ("" if argument is None else f" {argument}")


def _option_line(slot: Slot, condition: str) -> str:
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in slot.names]
    value = ""
    if slot.takes_value:
        value = (
            " -r -F"
            if slot.kind == "file" and not slot.live
            else f" -x -a {_quote(_values_expression(slot))}"
            if slot.completion
            else " -x"
        )
    return f"complete -c dbctl {condition}{' '.join(names)}{value} -d {_quote(slot.help)}"


def _values_expression(slot: Slot) -> str:
    if slot.live:
        return f"(__dbctl_live {slot.completion.removeprefix('@')})"
    return "(__fish_complete_directories)" if slot.kind == "directory" else " ".join(slot.choices)


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
