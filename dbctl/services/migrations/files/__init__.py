"""Files of migrations: folders, formats, sections, variants."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.migrations.files.loader import Folder, MigrationFile, Steps, order_key_of
    from dbctl.services.migrations.files.new import CreatedFile, CreateMigration
    from dbctl.services.migrations.files.parser import AllowedCode
    from dbctl.services.migrations.files.variants import rank_variants
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "loader": "Folder MigrationFile Steps order_key_of",
            "new": "CreateMigration CreatedFile",
            "parser": "AllowedCode",
            "variants": "rank_variants",
        },
    )
