"""Health and the metric table."""
