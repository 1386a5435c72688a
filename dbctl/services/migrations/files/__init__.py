"""Files of migrations: folders, formats, sections, variants."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.migrations.files.loader import Folder, MigrationFile, Steps, place_of
    from dbctl.services.migrations.files.new import FileCreated, NewMigration
    from dbctl.services.migrations.files.parser import Allowed
    from dbctl.services.migrations.files.variants import by_likelihood
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "loader": "Folder MigrationFile Steps place_of",
            "new": "FileCreated NewMigration",
            "parser": "Allowed",
            "variants": "by_likelihood",
        },
    )
