"""Completion files for shells, made from the command tree, so that completing starts no Python.

``python -m dbctl.cli._complete`` writes them into ``completions/``, and the help of ``dbctl`` itself beside this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from typer.core import TyperGroup, TyperOption
from typer.main import get_group

from dbctl.cli._options import share, shared_names
from dbctl.cli.completions import FILES, MARK
from dbctl.cli.main import app
from dbctl.model import Value
from dbctl.shipped import shipped

if TYPE_CHECKING:
    from typer._click import Command, Context, Parameter


#: What ``dbctl --help`` prints without importing the command tree.
HELP = Path(__file__).with_name("help.txt")


class Slot(Value, frozen=True, kw_only=True):
    """An option, or one positional argument."""

    names: Sequence[str] = ()  #: empty: positional
    help: str = ""
    takes_value: bool = True
    kind: str = "any"  #: any, file, directory
    choices: Sequence[str] = ()
    many: bool = False


class Node(Value, frozen=True, kw_only=True):
    """One command or group."""

    path: str  #: words with blanks between; empty: dbctl itself
    children: Sequence[tuple[str, str]] = ()  #: name and help
    options: Sequence[Slot] = ()  #: its own, without those of every command
    arguments: Sequence[Slot] = ()


def generate(shell: str) -> str:
    """Return the completion file for ``shell``, one of ``Shell``."""
    root = share(get_group(app))
    nodes = list(_walk(root, root.make_context("dbctl", [], resilient_parsing=True), ""))
    common = [_slot(param) for param in root.params if param.name in shared_names()]
    common.append(Slot(names=("--help", "-h"), help="Show the help.", takes_value=False))
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](nodes, common)


def _walk(command: Command, ctx: Context, path: str) -> Iterator[Node]:
    own = [
        param
        for param in command.params
        if param.name not in shared_names() and not getattr(param, "hidden", False)
    ]
    children: list[tuple[str, Command]] = []
    if isinstance(command, TyperGroup):
        named = ((name, command.get_command(ctx, name)) for name in command.list_commands(ctx))
        children = [(name, child) for name, child in named if child is not None and not child.hidden]
    yield Node(
        path=path,
        children=[(name, _brief(child)) for name, child in children],
        options=[_slot(param) for param in own if isinstance(param, TyperOption)],
        arguments=[_slot(param) for param in own if not isinstance(param, TyperOption)],
    )
    for name, child in children:
        yield from _walk(child, ctx, f"{path} {name}".strip())


def _brief(command: Command) -> str:
    first = " ".join((command.short_help or "").split()).partition(".")[0]
    return shorten(first, 70, placeholder="…")


def _slot(param: Parameter) -> Slot:
    option = isinstance(param, TyperOption)
    metavar, kind = str(getattr(param, "metavar", "") or ""), getattr(param.type, "name", "")
    choices = getattr(param.type, "choices", ())
    return Slot(
        names=[*param.opts, *param.secondary_opts] if option else (),
        help=str(getattr(param, "help", "") or "").rstrip("."),
        takes_value=not getattr(param, "is_flag", False),
        kind="directory"
        if kind == "directory" or metavar == "DIR"
        else "file"
        if kind in {"path", "file", "filename"} or metavar == "FILE"
        else "any",
        choices=[str(getattr(choice, "value", choice)) for choice in choices],
        many=param.nargs == -1,
    )


def _wanted(slot: Slot) -> str:
    """Return what completes a value: ``@file``, ``@directory``, or words; empty: nothing does."""
    return f"@{slot.kind}" if slot.kind != "any" else " ".join(slot.choices)


def _cases(nodes: Sequence[Node], common: Sequence[Slot]) -> tuple[list[str], list[str], list[str]]:
    """Return the branches that bash and zsh share: values of options, values of arguments, known commands."""
    options = [
        f"*:{name}) wanted={_quoted(_wanted(slot))} ;;"
        for slot in common
        if slot.takes_value
        for name in slot.names
    ]
    options += [
        f"{_quoted(f'{node.path}:{name}')}) wanted={_quoted(_wanted(slot))} ;;"
        for node in nodes
        for slot in node.options
        if slot.takes_value
        for name in slot.names
    ]
    arguments = [
        f"{_quoted(node.path + ':')}{'*' if slot.many else index}) wanted={_quoted(_wanted(slot))} ;;"
        for node in nodes
        for index, slot in enumerate(node.arguments)
        if _wanted(slot)
    ]
    commands = [
        f"{_quoted(f'{node.path} {name}'.strip())}) path=$next; count=0; return 0 ;;"
        for node in nodes
        for name, _ in node.children
    ]
    return options, arguments, commands


def _block(lines: Sequence[str], depth: int) -> str:
    return "\n".join("    " * depth + text for text in lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _bash(nodes: Sequence[Node], common: Sequence[Slot]) -> str:
    options, arguments, commands = _cases(nodes, common)
    flags = " ".join(name for slot in common for name in slot.names)
    words = [
        f"{_quoted(node.path)}) children={_quoted(' '.join(name for name, _ in node.children))}; "
        f"flags={_quoted(' '.join(name for slot in node.options for name in slot.names))} ;;"
        for node in nodes
    ]
    return f"""# Completion of dbctl for bash; {MARK}.

_dbctl_value() {{  # sets wanted to what completes the value of option $1 of the command $path; 1: it takes none
    wanted=
    case "$path:$1" in
{_block(options, 2)}
        *) return 1 ;;
    esac
}}

_dbctl_step() {{  # goes from the command $path to its subcommand $1, or counts an argument
    local next="${{path:+$path }}$1"
    case "$next" in
{_block(commands, 2)}
    esac
    count=$((count + 1))
}}

_dbctl() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" path= count=0 wanted= option= children= flags= word index only_arguments= IFS=$' \\t\\n'
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        word="${{COMP_WORDS[index]}}"
        if [[ -n $option ]]; then
            [[ $word == "=" ]] || option=  # bash takes --output=json apart at the sign
        elif [[ -n $only_arguments ]]; then
            count=$((count + 1))
        elif [[ $word == "--" ]]; then
            only_arguments=1
        elif [[ $word == -* ]]; then
            if _dbctl_value "$word"; then option=$word; fi
        else
            _dbctl_step "$word"
        fi
    done
    [[ -n $option && $current == "=" ]] && current=
    case "$path" in
{_block(words, 2)}
    esac
    if [[ -n $option ]]; then
        _dbctl_value "$option"
    elif [[ $current == -* && -z $only_arguments ]]; then
        COMPREPLY=($(compgen -W "$flags {flags}" -- "$current"))
        return
    else
        wanted=$children
        case "$path:$count" in
{_block(arguments, 3)}
        esac
    fi
    case "$wanted" in
        @file) IFS=$'\\n'; compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$current")) ;;
        @directory) IFS=$'\\n'; compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$current")) ;;
        *) COMPREPLY=($(compgen -W "$wanted" -- "$current")) ;;
    esac
}}

complete -F _dbctl dbctl
"""


def _zsh(nodes: Sequence[Node], common: Sequence[Slot]) -> str:
    options, arguments, commands = _cases(nodes, common)
    children = [
        f"{_quoted(node.path)}) children=({' '.join(_described(name, text) for name, text in node.children)}) ;;"
        for node in nodes
        if node.children
    ]
    flags = [
        f"{_quoted(node.path)}) flags=({' '.join(_described(name, slot.help) for slot in node.options for name in slot.names)}) ;;"
        for node in nodes
        if node.options
    ]
    shared = " ".join(_described(name, slot.help) for slot in common for name in slot.names)
    return f"""#compdef dbctl
# Completion of dbctl for zsh; {MARK}.

_dbctl_value() {{  # sets wanted to what completes the value of option $1 of the command $path; 1: it takes none
    wanted=
    case "$path_:$1" in
{_block(options, 2)}
        *) return 1 ;;
    esac
}}

_dbctl_step() {{  # goes from the command $path to its subcommand $1, or counts an argument
    local next="${{path_:+$path_ }}$1"
    case "$next" in
{_block(commands, 2).replace("path=$next", "path_=$next")}
    esac
    count=$((count + 1))
}}

_dbctl() {{
    local current="$words[CURRENT]" path_= count=0 wanted= option= word only_arguments=
    local -a children flags
    for word in "${{(@)words[2,CURRENT-1]}}"; do
        if [[ -n $option ]]; then
            option=
        elif [[ -n $only_arguments ]]; then
            count=$((count + 1))
        elif [[ $word == -- ]]; then
            only_arguments=1
        elif [[ $word == -*=* ]]; then
            :
        elif [[ $word == -* ]]; then
            if _dbctl_value "$word"; then option=$word; fi
        else
            _dbctl_step "$word"
        fi
    done
    if [[ -z $option && -z $only_arguments && $current == --*=* ]]; then
        option="${{current%%=*}}"
        compset -P '*='
    fi
    if [[ -n $option ]]; then
        _dbctl_value "$option"
    elif [[ $current == -* && -z $only_arguments ]]; then
        case "$path_" in
{_block(flags, 3)}
        esac
        flags+=({shared})
        _describe option flags
        return
    else
        case "$path_" in
{_block(children, 3)}
        esac
        if (( $#children )); then
            _describe command children
            return
        fi
        case "$path_:$count" in
{_block(arguments, 3)}
        esac
    fi
    case "$wanted" in
        @file) _files ;;
        @directory) _files -/ ;;
        ?*) compadd -- ${{=wanted}} ;;
    esac
}}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _dbctl "$@"
else
    compdef _dbctl dbctl
fi
"""


def _described(name: str, text: str) -> str:
    return _quoted(name.replace(":", "\\:") + (f":{text}" if text else ""))


def _fish(nodes: Sequence[Node], common: Sequence[Slot]) -> str:
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
            if _wanted(slot)
        ]
    lines += [_fish_option(slot, "") for slot in common]
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
{_block(lines, 0)}
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
            if _wanted(slot)
            else " -x"
        )
    return f"complete -c dbctl {at}{' '.join(names)}{value} -d {_fished(slot.help)}"


def _fish_values(slot: Slot) -> str:
    return "(__fish_complete_directories)" if slot.kind == "directory" else " ".join(slot.choices)


def _fished(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def write() -> None:
    """Write every file of ``FILES`` where the shipped ones are, and the help."""
    for shell, name in FILES.items():
        (shipped("completions") / name).write_text(generate(shell), encoding="utf-8")
    HELP.write_text(root_help(), encoding="utf-8")


def root_help() -> str:
    """Return what ``dbctl --help`` prints on 80 columns."""
    root = share(get_group(app))
    ctx = root.make_context("dbctl", [], resilient_parsing=True, terminal_width=78)  # Typer's own on 80
    return root.get_help(ctx) + "\n"


if __name__ == "__main__":
    write()
