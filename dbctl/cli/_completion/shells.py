"""Completion files of bash and zsh, whose branches are alike."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.cli._completion.tree import Node, Slot
from dbctl.cli.completions import MARK


def bash(nodes: Sequence[Node], common: Sequence[Slot]) -> str:
    """Return the file for bash."""
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


def zsh(nodes: Sequence[Node], common: Sequence[Slot]) -> str:
    """Return the file for zsh."""
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


def _cases(nodes: Sequence[Node], common: Sequence[Slot]) -> tuple[list[str], list[str], list[str]]:
    """Return the branches that bash and zsh share: values of options, values of arguments, known commands."""
    options = [
        f"*:{name}) wanted={_quoted(slot.completes)} ;;"
        for slot in common
        if slot.takes_value
        for name in slot.names
    ]
    options += [
        f"{_quoted(f'{node.path}:{name}')}) wanted={_quoted(slot.completes)} ;;"
        for node in nodes
        for slot in node.options
        if slot.takes_value
        for name in slot.names
    ]
    arguments = [
        f"{_quoted(node.path + ':')}{'*' if slot.many else index}) wanted={_quoted(slot.completes)} ;;"
        for node in nodes
        for index, slot in enumerate(node.arguments)
        if slot.completes
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
