"""Files and processes: atomic writes, locks, temporary folders, archives, compression, client programs."""
