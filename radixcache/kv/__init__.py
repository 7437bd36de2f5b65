"""The data plane: how keys and values lie in memory, and the paged pool that holds them."""
