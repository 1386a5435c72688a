"""Metrics of databases, backups and runs, for Prometheus."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.metrics.collect import Metrics, Sample, collect_metrics
    from dbctl.services.metrics.exposition import MetricsWritten, format_metrics, write_metrics
    from dbctl.services.metrics.families import FAMILIES, PREFIX, Family
