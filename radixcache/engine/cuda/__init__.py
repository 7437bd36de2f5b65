"""Decode steps recorded once and replayed, so that on a GPU launching does not cost more than computing."""
