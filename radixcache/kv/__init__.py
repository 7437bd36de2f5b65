"""The data plane: how keys and values are laid out in memory, and the paged pool that holds them."""
