"""Comparisons that were published: kept whole, listed, shown on a page of their own."""
