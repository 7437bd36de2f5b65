"""Reports for the terminal, one module per command."""
