"""One plan for the plans of many instances."""

from __future__ import annotations

from collections import Counter

from dbctl.model import DryRunResult, Plan, format_count
from dbctl.services.fleet.outcome import Outcome

#: Steps of a combined plan that are shown, and different ones that are counted.
SHOWN_STEPS, COUNTED_STEPS = 20, 1_000


class PlanCollector:
    """Plans of instances; equal steps are counted, so its size depends on the number of different steps."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._title = ""
        self._steps, self._rows = Counter[str](), Counter[str]()
        self._changed = self._failed = 0
        self._is_destructive = False
        self.digests: dict[str, str] = {}  #: by app

    def add(self, outcome: Outcome) -> None:
        """Add the plan of an instance, or count its failure."""
        if not isinstance(outcome.data, DryRunResult):
            self._failed += outcome.state == "failed"
            return
        plan = outcome.data.plan
        self.digests[outcome.app] = plan.digest
        if plan.is_empty:
            return
        self._changed += 1
        self._title = self._title or plan.title.replace(outcome.app, self._target)
        self._is_destructive |= plan.destructive
        self._rows.update(plan.rows)
        for step in plan.steps:
            text = step.replace(outcome.app, "INSTANCE")
            if text not in self._steps and len(self._steps) >= COUNTED_STEPS:
                text = "further steps"
            self._steps[text] += 1

    def create_plan(self) -> Plan:
        """Return the combined plan."""
        steps = [
            f"{format_count(count, 'instance')}: {step}"
            for step, count in self._steps.most_common(SHOWN_STEPS)
        ]
        if (omitted := len(self._steps) - SHOWN_STEPS) > 0:
            steps.append(f"{format_count(omitted, 'further step')}: list them with --dry-run -o jsonl")
        if self._failed:
            steps.append(f"{format_count(self._failed, 'instance')}: cannot be planned")
        return Plan(
            title=f"{self._title or 'Change'}, on {format_count(self._changed, 'instance')}",
            target=self._target,
            steps=steps if self._changed or self._failed else [],
            rows=dict(self._rows),
            destructive=self._is_destructive,
        )
