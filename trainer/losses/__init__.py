"""Losses as pure functions of logits and log-probabilities."""
