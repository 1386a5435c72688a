"""Recovery of one database as of a time, from what other programs archived: a backup of the kind ``recovered``."""
