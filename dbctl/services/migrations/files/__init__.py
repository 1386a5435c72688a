"""Files of migrations: folders, formats, sections, variants."""
