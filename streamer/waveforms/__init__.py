"""From miniSEED bytes to the gap-aware rings of a station."""
