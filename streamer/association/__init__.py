"""Association: picks of a network become located events; runs without torch."""
