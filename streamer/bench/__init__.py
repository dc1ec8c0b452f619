"""How many stations this machine carries: a synthetic network sent through the real daemon."""
