"""Every promise of speed, measured against what one would use instead; ``python -m benchmarks`` runs them."""
