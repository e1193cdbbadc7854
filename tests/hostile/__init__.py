"""Hostile messages by the thousand or million through a running worker."""
