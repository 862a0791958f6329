"""Merging of checkpoints with equal layouts: Hugging Face directories in, one Hugging Face directory out, read and
written tensor by tensor."""
