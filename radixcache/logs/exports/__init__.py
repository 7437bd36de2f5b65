"""Exports of observability tools and gateways: a request wrapped in what the tool knows of it."""
