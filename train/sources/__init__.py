"""Labelled recordings as others keep them, each format read by one module, one record at a time."""
