"""The proof whether a chat template is prefix-stable."""
