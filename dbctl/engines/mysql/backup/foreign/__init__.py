"""Dumps of MySQL and MariaDB that dbctl did not create, loaded by a user with limited rights."""
