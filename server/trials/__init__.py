"""Trials: one candidate of a study, its measurements, and starting its training."""
