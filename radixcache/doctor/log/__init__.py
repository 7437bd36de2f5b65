"""A log read once: token ids and records on disk, its text by the part of the request it comes from."""
