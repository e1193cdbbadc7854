"""The bed: starts the real parts."""
