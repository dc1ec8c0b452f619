"""From station rings to picks: schedule, infer, pick."""
