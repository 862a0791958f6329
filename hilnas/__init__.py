"""The composition root: the command line, plugins, measuring on this machine, the demo."""
