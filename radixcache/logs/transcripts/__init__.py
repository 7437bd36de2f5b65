"""Transcripts of sessions: what was said, from which the requests are put together."""
