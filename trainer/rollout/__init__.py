"""Tokens that a model says: decoding, episodes with tools, prefixes kept for the next turn."""
