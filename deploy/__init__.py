"""What operators install: units, alerts, a dashboard, examples. Data only, no logic."""
