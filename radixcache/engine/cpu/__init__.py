"""Models made fast and reproducible on a CPU."""
