"""A log against the cache without the engine: hit rates for policies, capacities and block sizes."""
