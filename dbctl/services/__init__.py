"""Services: the work of the commands. One package per command group; typed values in, typed results out."""
