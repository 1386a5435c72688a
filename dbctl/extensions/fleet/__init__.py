"""Commands on all instances of a fleet, in worker processes, and the status of a fleet."""
