"""A contract of import-linter that belongs to dbctl: a package is imported through its ``__init__``."""

from __future__ import annotations

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class PublicNamesContract(Contract):
    """No module outside a package imports a name from one of the modules of the package.

    The package itself exports its names (``from dbctl.services.backup import CreateBackup``), and its modules as names for what they
    contain (``from dbctl.services.backup import clock``).

    Options:
        open_packages: packages that only group others and export nothing.
    """

    type_name = "public_names"
    open_packages = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002, FBT001 - the signature of import-linter
        """Return the imports that reach past the ``__init__`` of a package."""
        broken = []
        open_packages = set(self.open_packages)  # type: ignore[call-overload] # a field becomes its value
        for module in graph.modules:
            package = module.rpartition(".")[0]
            if not package or package in open_packages:
                continue
            for importer in graph.find_modules_that_directly_import(module):
                if importer == package or importer.startswith(f"{package}."):
                    continue
                broken += [
                    f"{importer}:{detail['line_number']}: {detail['line_contents']}"
                    for detail in graph.get_import_details(importer=importer, imported=module)
                    if detail["line_contents"].startswith(f"from {module} import")
                    and not graph.find_children(module)
                ]
        return ContractCheck(kept=not broken, metadata={"broken": sorted(broken)})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print the imports, one on a line."""
        for line in check.metadata["broken"]:
            output.print_error(line)
