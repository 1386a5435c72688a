"""Commands that only read, as tools of agents over the Model Context Protocol."""
