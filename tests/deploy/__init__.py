"""What watches a house: metrics, rules, dashboards, traces."""
