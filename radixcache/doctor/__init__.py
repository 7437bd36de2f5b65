"""Why prompts missed the cache: every missed token by cause, what would undo it, and what that gains."""
