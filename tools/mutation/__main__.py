"""Change the source at many places, one at a time, and report the changes that no test finds.

``python -m tools.mutation [AREA…] [--count N] [--seed N] [--report FILE]``. The exit status is 1 if a mutant survives that
``equivalent.toml`` does not explain.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from tools.mutation.mutants import Mutant, create_mutants
from tools.mutation.runs import ROOT, Coverage, copy_tree, measure_coverage, preload, run_tests, share_servers

FOLDER = Path(__file__).parent
#: Test functions that try one mutant; see ``_select_tests``.
MAX_TESTS = 240
WORKERS = 2
#: A run with a mutant may take this many times as long as without, and this many seconds for its start.
SLOWER, START = 8, 60


class Outcome(NamedTuple):
    area: str
    mutant: Mutant
    change: str  #: ``old → new``
    result: str  #: killed, survived or uncovered
    reason: str = ""  #: why a mutant that survived changes nothing

    @property
    def place(self) -> str:
        return f"{self.mutant.path.relative_to(ROOT)}:{self.mutant.line}"

    @property
    def key(self) -> str:
        """The mutant without a number of a line, which every edit changes: ``file: line: old → new``."""
        line = self.mutant.path.read_text().splitlines()[self.mutant.line - 1].strip()
        return f"{self.mutant.path.relative_to(ROOT)}: {line}: {self.change}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description=__doc__)
    areas = tomllib.loads((FOLDER / "areas.toml").read_text())
    parser.add_argument("area", nargs="*", choices=[[], *areas], help="default: all")
    parser.add_argument("--count", type=int, default=400, help="mutants of all areas together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="a Markdown file for the outcome")
    options = parser.parse_args(arguments)
    preload()
    with tempfile.TemporaryDirectory(prefix="dbctl-mutants-") as folder:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(WORKERS):
            trees.put(copy_tree(Path(folder, str(number))))
        selected = {name: areas[name] for name in options.area or areas}
        with share_servers(Path(folder, "0")):
            outcomes = list(_try_areas(selected, trees, Path(folder), options.count, options.seed))
    report = _write_report(outcomes)
    print(report)  # noqa: T201 - a script
    if options.report:
        options.report.write_text(report)
    return int(any(outcome.result != "killed" and not outcome.reason for outcome in outcomes))


def _try_areas(
    areas: Mapping[str, Any], trees: SimpleQueue[Path], folder: Path, count: int, seed: int
) -> Iterator[Outcome]:
    """Try a sample of the mutants of all areas, in proportion to their size."""
    mutants = {name: _list_mutants(area["sources"]) for name, area in areas.items()}
    total = sum(map(len, mutants.values()))
    reasons = _read_reasons()
    for name, area in areas.items():
        share = min(len(mutants[name]), max(20, round(count * len(mutants[name]) / total)))
        sample = random.Random(seed).sample(mutants[name], share)  # noqa: S311 - no secret
        tests = [path for path in area["tests"] if (ROOT / path).exists()]
        with _borrow(trees) as tree:
            coverage = measure_coverage(tree, area["sources"], tests, folder / "coverage.json")
        with ThreadPoolExecutor(WORKERS) as pool:
            for outcome in pool.map(lambda mutant: _try_mutant(name, mutant, coverage, trees), sample):  # noqa: B023 - ends here
                sys.stderr.write(f"{outcome.result:9} {outcome.place} {outcome.change}\n")
                yield outcome._replace(
                    reason=reasons.get(outcome.key, "") if outcome.result != "killed" else ""
                )


def _list_mutants(sources: Sequence[str]) -> list[Mutant]:
    paths = (ROOT / source for source in sources)
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    return [mutant for file in files if file.name != "__init__.py" for mutant in create_mutants(file)]


def _try_mutant(area: str, mutant: Mutant, coverage: Coverage, trees: SimpleQueue[Path]) -> Outcome:
    source = mutant.path.read_bytes()
    change = mutant.describe(source)
    relative = mutant.path.relative_to(ROOT)
    lines = coverage.tests.get(str(relative), {})
    # Lines that run on import have no test of their own: those of the whole file try their mutants.
    tests = lines.get(mutant.line) or sorted({name for names in lines.values() for name in names})
    if not tests:
        return Outcome(area, mutant, change, "uncovered")
    tests = _select_tests(tests, coverage.seconds)
    limit = START + SLOWER * sum(coverage.seconds.get(name, 0.0) for name in tests)
    with _borrow(trees) as tree:
        file = tree / relative
        for compiled in file.parent.glob(f"__pycache__/{file.stem}.*.pyc"):
            compiled.unlink()
        file.write_bytes(mutant.apply(source))
        try:
            has_survived = run_tests(tree, tests, limit)
        finally:
            file.write_bytes(source)
    return Outcome(area, mutant, change, "survived" if has_survived else "killed")


def _select_tests(tests: Sequence[str], seconds: Mapping[str, float]) -> list[str]:
    """Return at most ``MAX_TESTS`` tests, the fastest first: of each file as many, so that none is left out for its duration."""
    fastest = sorted(tests, key=lambda name: seconds.get(name, 0.0))
    ranks, of_file = dict[str, int](), Counter[str]()
    for name in fastest:
        file = name.partition("::")[0]
        ranks[name] = of_file[file]
        of_file[file] += 1
    selected = set(sorted(fastest, key=ranks.__getitem__)[:MAX_TESTS])
    return [name for name in fastest if name in selected]


@contextmanager
def _borrow(trees: SimpleQueue[Path]) -> Iterator[Path]:
    tree = trees.get()
    try:
        yield tree
    finally:
        trees.put(tree)


def _read_reasons() -> Mapping[str, str]:
    """Return why known mutants change nothing that an app or a user could notice, by ``Outcome.key``."""
    path = FOLDER / "equivalent.toml"
    reasons: Mapping[str, str] = tomllib.loads(path.read_text()) if path.exists() else {}
    return reasons


def _write_report(outcomes: Sequence[Outcome]) -> str:
    alive = [outcome for outcome in outcomes if outcome.result != "killed"]
    lines = ["# Mutants", ""]
    if outcomes:
        share = 100 * len(alive) / len(outcomes)
        lines += [f"{len(outcomes)} mutants, {len(alive)} not found by a test ({share:.1f} %).", ""]
    lines += ["| area | mutants | killed | survived | uncovered |", "| --- | ---: | ---: | ---: | ---: |"]
    for area in dict.fromkeys(outcome.area for outcome in outcomes):
        results = [outcome.result for outcome in outcomes if outcome.area == area]
        counts = [results.count(result) for result in ("killed", "survived", "uncovered")]
        lines.append(f"| {area} | {len(results)} | {' | '.join(map(str, counts))} |")
    lines += ["", *(f"* `{o.place}` {o.result}: `{o.change}` {o.reason or '(unexplained)'}" for o in alive)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
