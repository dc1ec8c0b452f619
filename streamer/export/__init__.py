"""Picks and events in the formats of other programs: what people and their tools read."""
