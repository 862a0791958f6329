"""Examples for fine-tuning: where they come from, what is kept of them, in which order they are read."""
