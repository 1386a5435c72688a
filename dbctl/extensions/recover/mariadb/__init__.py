"""Recovery of databases of MariaDB: a backup of dbctl, and the binary logs of its server since then."""
