"""A phone as a measurement device: what is read of it, what is set on it, and when it is fit to measure."""
