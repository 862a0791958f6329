"""Quantization-aware training in 8da4w: what is computed while training is what the exported program computes."""
