"""Runs of recipes: here, leased from a coordinator, rehearsed, estimated before they begin."""
