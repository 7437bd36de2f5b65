"""How many tokens of KV fit in a given memory, and the hit rate that buys."""
