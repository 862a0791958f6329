"""Candidates trained on a little real text, and judged by the bits per byte of text they have not seen."""
