"""Trials: one candidate of a study, its measurements, its hand-over to training."""
