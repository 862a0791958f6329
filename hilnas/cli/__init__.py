"""The ``hilnas`` command: its entry point, the commands that use a coordinator, and terminal output."""
