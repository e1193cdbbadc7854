"""Unit tests: no service is needed."""
