"""Completion files for bash and zsh."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.cli.completions import MARK
from tools.completion.tree import Node, Slot


def render_bash(nodes: Sequence[Node], common: Sequence[Slot]) -> str:
    """Return the file for bash."""
    options, arguments, commands = _case_branches(nodes, common)
    flags = " ".join(name for slot in common for name in slot.names)
    branches = [
        f"{_quote(node.path)}) children={_quote(' '.join(name for name, _ in node.children))}; "
        f"flags={_quote(' '.join(name for slot in node.options for name in slot.names))} ;;"
        for node in nodes
    ]
    return f"""# Completion of dbctl for bash; {MARK}.

_dbctl_value() {{  # sets candidates for the value of option $1 of the command $path; returns 1 if it takes none
    candidates=
    case "$path:$1" in
{_indent(options, 2)}
        *) return 1 ;;
    esac
}}

_dbctl_step() {{  # goes from the command $path to its subcommand $1, or counts an argument
    local next="${{path:+$path }}$1"
    case "$next" in
{_indent(commands, 2)}
    esac
    count=$((count + 1))
}}

_dbctl_split() {{  # sets words to those of the line up to the cursor; bash also splits them at = and :
    local line="${{COMP_LINE:0:COMP_POINT}}" remainder word index count=-1
    words=()
    for ((index = 0; index <= COMP_CWORD; index++)); do
        remainder="${{line#"${{line%%[![:space:]]*}}"}}"
        word="${{COMP_WORDS[index]}}"
        if ((index == COMP_CWORD)); then word="$remainder"; fi
        if [[ $index == 0 || $remainder != "$line" ]]; then count=$((count + 1)); words[count]=; fi
        words[count]+="$word"
        line="${{remainder#"$word"}}"
    done
}}

_dbctl_live() {{  # completes values of the slot $1; $2 is what readline replaces
    local value
    while IFS= read -r value; do
        COMPREPLY+=("$value")
        if [[ $value == *= ]]; then compopt -o nospace 2>/dev/null; fi
    done < <("${{words[0]/#\\~/$HOME}}" __complete bash "$1" "$2" "${{words[@]:1}}" 2>/dev/null)
}}

_dbctl() {{
    local path= count=0 candidates= option= children= flags= word index only_arguments= words current IFS=$' \t\n'
    COMPREPLY=()
    _dbctl_split
    current="${{words[${{#words[@]}} - 1]}}"
    for ((index = 1; index < ${{#words[@]}} - 1; index++)); do
        word="${{words[index]}}"
        if [[ -n $option ]]; then
            option=
        elif [[ -n $only_arguments ]]; then
            count=$((count + 1))
        elif [[ $word == "--" ]]; then
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
        current="${{current#*=}}"
    fi
    case "$path" in
{_indent(branches, 2)}
    esac
    if [[ -n $option ]]; then
        _dbctl_value "$option"
    elif [[ $current == -* && -z $only_arguments ]]; then
        COMPREPLY=($(compgen -W "$flags {flags}" -- "$current"))
        return
    else
        if ((count == 0)); then candidates=$children; fi
        case "$path:$count" in
{_indent(arguments, 3)}
        esac
    fi
    case "$candidates" in
        @file) IFS=$'\n'; compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$2")) ;;
        @directory) IFS=$'\n'; compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$2")) ;;
        @*) _dbctl_live "${{candidates#@}}" "$2" ;;
        *) COMPREPLY=($(compgen -W "$candidates" -- "$2")) ;;
    esac
    if [[ -z $option && -n $children && $candidates == @* ]]; then COMPREPLY+=($(compgen -W "$children" -- "$2")); fi
    # a command of another distribution
    if [[ -z $option && -n $children && $candidates != @* && ${{#COMPREPLY[@]}} == 0 ]]; then _dbctl_live argument:commands "$2"; fi
}}

complete -F _dbctl dbctl
"""


def render_zsh(nodes: Sequence[Node], common: Sequence[Slot]) -> str:
    """Return the file for zsh."""
    options, arguments, commands = _case_branches(nodes, common)
    children = [
        f"{_quote(node.path)}) children=({' '.join(_describe(name, text) for name, text in node.children)}) ;;"
        for node in nodes
        if node.children
    ]
    flags = [
        f"{_quote(node.path)}) flags=({' '.join(_describe(name, slot.help) for slot in node.options for name in slot.names)}) ;;"
        for node in nodes
        if node.options
    ]
    shared = " ".join(_describe(name, slot.help) for slot in common for name in slot.names)
    return f"""#compdef dbctl
# Completion of dbctl for zsh; {MARK}.

_dbctl_value() {{  # sets candidates for the value of option $1 of the command $path; returns 1 if it takes none
    candidates=
    case "$path_:$1" in
{_indent(options, 2)}
        *) return 1 ;;
    esac
}}

_dbctl_step() {{  # goes from the command $path to its subcommand $1, or counts an argument
    local next="${{path_:+$path_ }}$1"
    case "$next" in
{_indent(commands, 2).replace("path=$next", "path_=$next")}
    esac
    count=$((count + 1))
}}

_dbctl_live() {{  # completes values of the slot $1
    local -a names
    names=("${{(@0)$("${{(Q)words[1]/#\\~/$HOME}}" __complete zsh "$1" '' "${{(@Q)words[2,CURRENT-1]}}" "${{(Q)PREFIX}}" 2>/dev/null)}}")
    names=(${{(@)names:#}})
    if [[ $names[1] == *= ]]; then compadd -S '' -- "${{(@)names}}"; else compadd -- "${{(@)names}}"; fi
}}

_dbctl() {{
    local current="$words[CURRENT]" path_= count=0 candidates= option= word only_arguments= other=
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
{_indent(flags, 3)}
        esac
        flags+=({shared})
        _describe option flags
        return
    else
        case "$path_" in
{_indent(children, 3)}
        esac
        if (( count )) || ! _describe command children; then other=1; fi
        case "$path_:$count" in
{_indent(arguments, 3)}
        esac
        # a command of another distribution
        if [[ -n $other && -z $candidates ]] && (( $#children )); then candidates=@argument:commands; fi
    fi
    case "$candidates" in
        @file) _files ;;
        @directory) _files -/ ;;
        @*) _dbctl_live "${{candidates#@}}" ;;
        ?*) compadd -- ${{=candidates}} ;;
    esac
}}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _dbctl "$@"
else
    compdef _dbctl dbctl
fi
"""


def _describe(name: str, text: str) -> str:
    return _quote(name.replace(":", "\\:") + (f":{text}" if text else ""))


def _case_branches(nodes: Sequence[Node], common: Sequence[Slot]) -> tuple[list[str], list[str], list[str]]:
    """Return the case branches for option values, argument values, and commands, which bash and zsh share."""
    options = [
        f"*:{name}) candidates={_quote(slot.completion)} ;;"
        for slot in common
        if slot.takes_value
        for name in slot.names
    ]
    options += [
        f"{_quote(f'{node.path}:{name}')}) candidates={_quote(slot.completion)} ;;"
        for node in nodes
        for slot in node.options
        if slot.takes_value
        for name in slot.names
    ]
    arguments = [
        f"{_quote(node.path + ':')}{'*' if slot.repeatable else index}) candidates={_quote(slot.completion)} ;;"
        for node in nodes
        for index, slot in enumerate(node.arguments)
        if slot.completion
    ]
    commands = [
        f"{_quote(f'{node.path} {name}'.strip())}) path=$next; count=0; return 0 ;;"
        for node in nodes
        for name, _ in node.children
    ]
    return options, arguments, commands


def _indent(lines: Sequence[str], depth: int) -> str:
    return "\n".join("    " * depth + text for text in lines)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
