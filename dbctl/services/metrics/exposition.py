"""Write metrics in the text format of Prometheus, with its client library."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dbctl.errors.connection import FileFailedError
from dbctl.errors.usage import require_driver
from dbctl.files.atomic import write_atomically
from dbctl.model import ChangeResult, Effect
from dbctl.services.metrics.collect import Metrics, Sample
from dbctl.services.metrics.families import FAMILIES, PREFIX

#: The collector of node_exporter runs as another user.
FILE_MODE = 0o644


class MetricsWritten(ChangeResult, frozen=True, kw_only=True):
    """Result of ``metrics --write``."""

    file: str
    metrics: int
    apps: int

    @property
    def effect(self) -> Effect | None:
        return Effect(
            "wrote", "metric", count=self.metrics, place=f"to {self.file}", counts={"apps": self.apps}
        )


def format_metrics(samples: Sequence[Sample]) -> str:
    """Return the metrics in the text format of Prometheus; the values of labels are escaped.

    Raises:
        DriverMissingError: the library is not installed.
    """
    with require_driver("metrics", driver="prometheus-client", extra="metrics"):
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.core import GaugeMetricFamily
    families = list[GaugeMetricFamily]()
    for family in FAMILIES:
        metric = GaugeMetricFamily(PREFIX + family.name, family.help, labels=family.labels)
        for sample in samples:
            if sample.name == metric.name:
                metric.add_metric(list(sample.labels.values()), sample.value)
        families.append(metric)

    class StoredMetrics:
        def collect(self) -> Sequence[GaugeMetricFamily]:
            return [metric for metric in families if metric.samples]

    registry = CollectorRegistry()
    registry.register(StoredMetrics())
    return generate_latest(registry).decode()


def write_metrics(metrics: Metrics, path: Path) -> MetricsWritten:
    """Replace a file by the metrics; a reader sees the old file or the new one, also if the command fails.

    Raises:
        DriverMissingError: the library is not installed.
        FileFailedError: the path is not a regular file, or cannot be written.
    """
    text = format_metrics(metrics.page.items)
    if path.exists() and not path.is_file():
        raise FileFailedError(path=path, reason="it is not a regular file")
    with write_atomically(path, mode=FILE_MODE, replace=True) as file:
        file.write(text)
        os.fchmod(file.fileno(), FILE_MODE)
    return MetricsWritten(file=str(path), metrics=metrics.page.total, apps=metrics.apps)
