"""A phone as a measurement device: reading its state, setting it up, and checking that it is fit to measure."""
