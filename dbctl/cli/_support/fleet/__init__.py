"""Commands on all instances of a fleet."""
