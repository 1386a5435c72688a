"""Data for bug reports: versions, and a bundle without secrets."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.support.bundle import BundledFile, collect_files, write_bundle
    from dbctl.services.support.versions import Component, list_components
