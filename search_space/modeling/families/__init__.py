"""Model families of transformers: one file each, one line here; a plugin registers its own in ``FAMILIES``."""

from search_space.modeling.families import lfm2, llama, qwen3  # noqa: F401  (each registers itself)
from search_space.modeling.families.base import FAMILIES, Family, family_of, from_stock, read_config, to_stock
from search_space.modeling.families.directory import load_directory

__all__ = ["FAMILIES", "Family", "family_of", "from_stock", "load_directory", "read_config", "to_stock"]
