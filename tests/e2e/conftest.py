"""Fixtures that are made elsewhere."""

from tests.doubles.tiny_parent import imported  # noqa: F401
