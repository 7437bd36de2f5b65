"""Replay a prompt log through an engine and say what the prefix cache was worth.

`radixcache.logs.read_logs` -> `prepare.prepare` (token ids, order) -> `replay.replay` (one or two runs on a
`target.ReplayTarget`) -> `results.ReplayReport`. Nothing is imported here, so that settings and results can
be used without loading an engine.
"""
