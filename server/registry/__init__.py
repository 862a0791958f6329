"""Everything that may be named, for pages and tools: parts of registries, metrics, recipes of enrolled trainers."""
