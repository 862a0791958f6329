"""Agents that measure: they lease plans from the coordinator, run them on a device and report rows with verdicts.
Installs without torch; imports ``contracts`` only."""
