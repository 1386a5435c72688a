"""Reports of findings for CI systems: annotations of GitHub, Code Quality of GitLab, JUnit and SARIF."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.render.reports.codes import CodeEntry, CodeSubject, read_subjects
    from dbctl.render.reports.report import create_report, report_failure
    from dbctl.render.reports.writers import write_report
