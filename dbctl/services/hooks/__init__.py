"""Programs of the configuration that run before and after actions, and the maintenance mode of apps."""
