"""Measures the worker on the real parts: `make bench`."""
