"""Changes to a log, from the words for them to what they gain."""
