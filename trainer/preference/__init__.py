"""Preference: rollouts, a jury, pairs of best and worst, and the losses that learn from them."""
