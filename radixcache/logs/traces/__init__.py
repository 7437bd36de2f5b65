"""Traces: lengths and hashes of blocks in place of prompts."""
