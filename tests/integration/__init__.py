"""Tests on the real parts."""
