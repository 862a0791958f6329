"""States of prompts that were read before, so that no generator reads the same tokens twice (docs/inference.md)."""
