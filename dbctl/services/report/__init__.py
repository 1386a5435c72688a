"""The operations report: state, growth, activity, backups, findings and changes of all apps."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.report.collect import collect_report
    from dbctl.services.report.fleets import FleetStatus, collect_fleet
    from dbctl.services.report.result import (
        Activity,
        InstanceTotals,
        OperationsReport,
        Point,
        ReportedApp,
        ReportedDatabase,
        ReportedFigure,
        ReportedFinding,
        ReportedMigration,
        ReportedRun,
        ReportTotals,
    )
