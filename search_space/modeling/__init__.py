"""Candidates in torch, as Hugging Face models."""
