"""Backup of LanceDB: snapshot, archive, load, swap, verification."""
