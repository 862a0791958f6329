"""Offline teachers, and their top-K log-probabilities on disk."""
