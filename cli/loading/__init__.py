"""Load on a running server: scenarios, emitters, telemetry, summary."""
