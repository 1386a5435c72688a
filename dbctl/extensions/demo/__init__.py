"""Sample deployments for trying dbctl; the same seed and time create the same rows."""
