"""Devices: enrolment, facts, liveness, draining."""
