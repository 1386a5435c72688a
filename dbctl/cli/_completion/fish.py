"""The completion file of fish."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.cli._completion.tree import Node, Slot
from dbctl.cli.completions import MARK


def fish(nodes: Sequence[Node], common: Sequence[Slot]) -> str:
    """Return the file."""
    valued = [
        name
        for slot in [*common, *(s for node in nodes for s in node.options)]
        if slot.takes_value
        for name in slot.names
    ]
    paths = [f"{node.path} {name}".strip() for node in nodes for name, _ in node.children]
    lines = [
        f"complete -c dbctl -n {_fished(_fish_at(node))} -f -a {_fished(name)} -d {_fished(text)}"
        for node in nodes
        for name, text in node.children
    ]
    for node in nodes:
        at = f"-n {_fished(_fish_at(node))} "
        lines += [_fish_option(slot, at) for slot in node.options]
        lines += [
            f"complete -c dbctl -n {_fished(_fish_at(node, None if slot.many else index))} "
            + ("-F" if slot.kind == "file" else f"-f -a {_fished(_fish_values(slot))}")
            for index, slot in enumerate(node.arguments)
            if slot.completes
        ]
    lines += [_fish_option(slot, "") for slot in common]
    offered = "\n".join(lines)
    return f"""# Completion of dbctl for fish; {MARK}.

function __dbctl_at -d 'Whether the words so far name the command $argv[1], with $argv[2] arguments after it'
    set -l path
    set -l count 0
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if contains -- $word {" ".join(dict.fromkeys(valued))}
            set skip 1
        else if string match -q -- '-*' $word
            continue
        else if contains -- (string join ' ' $path $word) {" ".join(map(_fished, paths))}
            set -a path $word
        else
            set count (math $count + 1)
        end
    end
    set path (string join ' ' $path)
    test "$path" = "$argv[1]"; or return 1
    test -z "$argv[2]"; or test $count = "$argv[2]"
end

complete -c dbctl -f
{offered}
"""


def _fish_at(node: Node, argument: int | None = None) -> str:
    return f"__dbctl_at {_fished(node.path)}" + ("" if argument is None else f" {argument}")


def _fish_option(slot: Slot, at: str) -> str:
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in slot.names]
    value = ""
    if slot.takes_value:
        value = (
            " -r -F"
            if slot.kind == "file"
            else f" -x -a {_fished(_fish_values(slot))}"
            if slot.completes
            else " -x"
        )
    return f"complete -c dbctl {at}{' '.join(names)}{value} -d {_fished(slot.help)}"


def _fish_values(slot: Slot) -> str:
    return "(__fish_complete_directories)" if slot.kind == "directory" else " ".join(slot.choices)


def _fished(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
