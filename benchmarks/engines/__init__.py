"""Whole engines side by side: the same weights, the same token ids, each in a process of its own."""
