"""Search spaces: what candidates a study may propose. ``core`` is the space, ``data`` reads one from YAML or JSON,
``library`` is the table by name."""

from search_space.space.choices import LayerChoices
from search_space.space.core import Assignment, SearchSpace, uniform_space
from search_space.space.data import space_from_data, space_from_file
from search_space.space.library import SPACES, named, space, space_of

__all__ = [
    "SPACES", "Assignment", "LayerChoices", "SearchSpace", "named", "space", "space_from_data", "space_from_file",
    "space_of", "uniform_space",
]  # fmt: skip
