"""All known names, for pages and tools: registered parts, metrics, recipes of enrolled trainers."""
