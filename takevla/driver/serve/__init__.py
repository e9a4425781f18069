"""Serving a driver to a simulator that runs in another process."""
