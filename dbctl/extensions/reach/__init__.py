"""Routes to databases that have no address on this machine: behind SSH, and in containers."""
