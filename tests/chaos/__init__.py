"""The chaos run: random faults on the real parts under load, then the verdict. The same seed makes the same plan."""
