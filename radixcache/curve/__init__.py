"""Hit-rate curves: what an LRU cache of any size would have reused of a log."""
