"""An extension of dbctl by another distribution."""
