"""Tokens and scopes: who may call what."""
