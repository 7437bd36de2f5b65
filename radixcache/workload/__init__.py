"""A log made ready for a cache: packed prompts in order, in memory or on disk."""
