"""Models compared by time on one device: from names to plans, measured in turn, told as tables."""
