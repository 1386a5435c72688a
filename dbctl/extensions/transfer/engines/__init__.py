"""The parts of databases that only transfers use, by engine."""
