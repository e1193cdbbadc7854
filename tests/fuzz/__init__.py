"""Fuzzing of what reads bytes from outside: framing, schema, datum."""
