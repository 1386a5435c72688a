"""The reference of findings lists exactly the codes that the sources report."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import dbctl
from dbctl.engines.contract.fulltext import IndexFault
from dbctl.engines.contract.vectors import VectorFault
from dbctl.errors.base import DbctlError, load_registry
from dbctl.extensions.external_index.contract import ExternalIndexState
from dbctl.extensions.schedule import status as schedule
from dbctl.render.reports import read_subjects
from dbctl.services.migrations import schema_diff, verify
from tools.findings_page import findings_page
from tools.reference import PAGES, list_commands

ROOT = Path(dbctl.__file__).parent
SEVERITIES = frozenset({"error", "warning", "info"})
#: The position of the code among the arguments of these constructors; None: always a keyword.
CONSTRUCTORS: Mapping[str, int | None] = {
    "Finding": 2,
    "EngineFinding": None,
    "FindingQuery": None,
    "Contradiction": 1,
    "rule": 0,
    "Check": 0,
}
#: Methods of other modules that create a finding.
METHODS = {"create_finding": 1, "finding": 1}
#: Modules whose functions return pairs of a code and a message.
PAIRS = frozenset({"services/backup/verifier.py", "services/backup/status.py"})
PARTS = get_args(get_type_hints(schema_diff.Part)["kind"])


def list_kinds(struct: type, field: str) -> Sequence[str]:
    return get_args(get_type_hints(struct)[field])


def list_run_problems() -> list[str]:
    tree = ast.parse((ROOT / "services/events/history.py").read_text(encoding="utf-8"))
    keywords = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "kind"]
    return [str(ast.literal_eval(keyword.value)) for keyword in keywords]


#: The values of computed codes, by the expression without its values.
COMPUTED: Mapping[str, Sequence[str]] = {
    "{}-by-{}": ["writable-by-all", "writable-by-group", "readable-by-all", "readable-by-group"],
    "folder-writable-by-{}": ["folder-writable-by-all", "folder-writable-by-group"],
    "run-{}": [f"run-{kind}" for kind in list_run_problems()],
    "job-{}": [f"job-{state}" for state in schedule._MESSAGES],
    "search-index-{}": [
        f"search-index-{state}" for state in list_kinds(ExternalIndexState, "state") if state != "fresh"
    ],
    "text-index-{}": [f"text-index-{kind}" for kind in list_kinds(IndexFault, "kind")],
    "vector-{}": [f"vector-{kind}" for kind in list_kinds(VectorFault, "kind")],
    "migration.state": list(verify.FINDINGS),
    "difference.code": [
        *(f"{kind}-{change}" for kind in schema_diff.SEVERITIES for change in ("missing", "extra")),
        *(f"{kind}-differs" for kind in PARTS),
    ],
}


class CodeCollector(ast.NodeVisitor):
    """Collects the codes of one module, and the expressions that it cannot evaluate."""

    def __init__(self, path: Path) -> None:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = ".".join(("dbctl", *path.relative_to(ROOT).with_suffix("").parts))
        self._names = vars(import_module(module))
        self._has_pairs = path.relative_to(ROOT).as_posix() in PAIRS
        self._positions = {**CONSTRUCTORS, **METHODS}
        self._functions: list[ast.FunctionDef] = []
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for _ in range(2):  # a function may call another one
            self._positions |= {node.name: find_position(node) for node in functions if self._builds(node)}
        self.codes, self.unknown = set[str](), set[str]()
        self.visit(tree)

    def _builds(self, function: ast.FunctionDef) -> bool:
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        return find_position(function) is not None and any(self._is_builder(call) for call in calls)

    def _is_builder(self, call: ast.Call) -> bool:
        """Whether a call creates a finding with a code; functions of other modules copy findings."""
        is_method = isinstance(call.func, ast.Attribute)
        return name_call(call) in (self._positions if is_method else self._positions.keys() - METHODS.keys())

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._functions.append(node)
        self.generic_visit(node)
        self._functions.pop()

    def visit_Call(self, node: ast.Call) -> None:
        name = name_call(node)
        if self._is_builder(node):
            position = self._positions[name]
            keywords = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            arguments = [] if position is None else node.args[position : position + 1]
            for expression in [*keywords, *arguments]:
                self._add(expression)
        elif self._has_pairs and name == "append" and isinstance(node.args[0], ast.Tuple):
            self._add_pair(node.args[0])
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Collect assignments to the variable ``code`` in functions that create findings."""
        calls = list(ast.walk(self._functions[-1])) if self._functions else []
        if any(isinstance(call, ast.Call) and self._is_builder(call) for call in calls):
            self._add_assigned(node.targets[0], node.value)
        self.generic_visit(node)

    def _add_assigned(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name) and target.id == "code":
            self._add(value)
        elif isinstance(target, ast.Tuple):
            names = [name.id if isinstance(name, ast.Name) else "" for name in target.elts]
            for alternative in split_alternatives(value) if "code" in names else ():
                if isinstance(alternative, ast.Tuple):
                    self._add(alternative.elts[names.index("code")])

    def visit_Yield(self, node: ast.Yield) -> None:
        """Collect tuples of a severity, a code and a message, and pairs."""
        if isinstance(node.value, ast.Tuple):
            if len(node.value.elts) > 2 and self._is_severity(node.value.elts[0]):
                self._add(node.value.elts[1])
            elif self._has_pairs:
                self._add_pair(node.value)
        self.generic_visit(node)

    def visit_List(self, node: ast.List) -> None:
        for element in node.elts:
            if self._has_pairs and isinstance(element, ast.Tuple):
                self._add_pair(element)
        self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        if self._has_pairs and isinstance(node.elt, ast.Tuple):
            self._add_pair(node.elt)
        self.generic_visit(node)

    def _add_pair(self, node: ast.Tuple) -> None:
        returns = ast.unparse(self._functions[-1].returns or ast.Constant(None)) if self._functions else ""
        if "tuple[str, str]" in returns and isinstance(node.elts[0], ast.Constant | ast.Name):
            self._add(node.elts[0])

    def _is_severity(self, node: ast.expr) -> bool:
        values = split_alternatives(node)
        return all(
            (isinstance(value, ast.Constant) and value.value in SEVERITIES)
            or (isinstance(value, ast.Name) and value.id == "severity")
            for value in values
        )

    def _add(self, expression: ast.expr) -> None:
        for value in split_alternatives(expression):
            text = ast.unparse(value)
            if isinstance(value, ast.JoinedStr):
                text = "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "{}" for part in value.values
                )
            if isinstance(value, ast.Constant):
                self.codes.add(str(value.value))
            elif text in COMPUTED:
                self.codes.update(COMPUTED[text])
            else:
                self._add_named(value, text)

    def _add_named(self, value: ast.expr, text: str) -> None:
        """Add the value of a constant, or all values of a mapping; codes of errors have their own page."""
        name, _, attribute = text.partition(".")
        constant = self._names.get(name)
        if isinstance(constant, type) and issubclass(constant, DbctlError):
            return
        if isinstance(value, ast.Subscript):
            owner = ast.unparse(value.value)
            module, _, member = owner.rpartition(".")
            mapping = getattr(self._names[module], member) if module else self._names[member]
            self.codes.update(mapping.values())
        elif isinstance(constant, str):
            self.codes.add(constant)
        elif attribute not in ("code", "value") and name != "code":
            self.unknown.add(text)


def find_position(function: ast.FunctionDef) -> int | None:
    """Return the position of the argument ``code`` of a function or method; None without it."""
    names = [argument.arg for argument in function.args.args]
    return names.index("code") - (names[0] == "self") if "code" in names else None


def name_call(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def split_alternatives(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.IfExp):
        yield from split_alternatives(node.body)
        yield from split_alternatives(node.orelse)
    else:
        yield node


@pytest.fixture(scope="module")
def collectors() -> list[CodeCollector]:
    paths = [
        path
        for folder in ("services", "engines", "extensions")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    texts = ("Finding", "Contradiction", "create_finding", "self.finding(", "@rule(")
    return [
        CodeCollector(path)
        for path in paths
        if any(text in path.read_text(encoding="utf-8") for text in texts)
    ]


def list_documented() -> set[str]:
    return {code for subject in read_subjects() for entry in subject.entries for code in entry.codes}


def test_every_code_of_the_sources_is_documented_and_no_other(collectors):
    reported = {code for collector in collectors for code in collector.codes}
    documented = list_documented()
    assert reported - load_registry().keys() <= documented <= reported


def test_every_expression_of_a_code_is_understood(collectors):
    assert {text for collector in collectors for text in collector.unknown} == set()


def test_commands_of_the_reference_exist():
    helps = list_commands()
    for subject in read_subjects():
        named = [*subject.commands, *(command for entry in subject.entries for command in entry.commands)]
        assert {command.partition(" --")[0] for command in named} <= helps.keys()
        for line in (
            line for entry in subject.entries for line in re.findall("`dbctl ([^`]+)`", entry.action)
        ):
            command = max((name for name in helps if f"{line} ".startswith(f"{name} ")), key=len, default="")
            known = set(re.findall(r"--[a-z-]+", f"{helps.get(command, '')} --app"))
            assert command or line == "users", line
            assert set(re.findall(r"--[a-z-]+", line)) <= known, line


def test_page_is_current():
    assert (PAGES / "findings.md").read_text(encoding="utf-8") == findings_page(), "run make golden"
