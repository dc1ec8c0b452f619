"""Real-time P and S picks from SeedLink to Redis streams. Read `pipeline.py` first."""

__version__ = "0.1.0"
