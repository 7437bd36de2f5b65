"""Prompts that part from earlier ones, compared as texts: what differs, and what kind of difference it is."""
