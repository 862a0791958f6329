"""The composition root: the command line, plugins, local measurements, the demo."""
