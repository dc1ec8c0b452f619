"""Demonstrations: the real commands as separate processes, with something to look at."""
