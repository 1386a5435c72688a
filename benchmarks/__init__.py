"""Every promise of speed, measured beside what one would use instead; ``python -m benchmarks`` runs them."""
