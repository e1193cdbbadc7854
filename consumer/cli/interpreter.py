"""How the interpreter is set up for a process that does nothing but move batches."""

import gc
import sys

SWITCH_INTERVAL = 0.0005
"""Seconds after which the thread that writes gets the interpreter from the one that decodes. Python's 0.005 would be waited for at each of
some twenty answers that PostgreSQL gives during a write."""

YOUNG_OBJECTS = 50_000
"""Objects between two looks of the garbage collector. A batch makes tens of thousands, none of them in a cycle; with Python's 700 it would
look at all of them again and again."""


def tune_interpreter() -> None:
    """Once, when everything is imported and before the work begins. What each is worth: docs/performance.md."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)
    sys.setswitchinterval(SWITCH_INTERVAL)
