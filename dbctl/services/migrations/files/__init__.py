"""Files of migrations: folders, formats, sections, variants."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.migrations.files.loader import Folder, MigrationFile, Steps, order_key_of
    from dbctl.services.migrations.files.new import CreatedFile, CreateMigration
    from dbctl.services.migrations.files.parser import AllowedCode
    from dbctl.services.migrations.files.rebuild import parse_table_change
    from dbctl.services.migrations.files.variants import rank_variants
