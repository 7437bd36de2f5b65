"""Attention over KV with torch, on a CPU."""
