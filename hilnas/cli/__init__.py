"""The ``hilnas`` command: its root, the commands that speak to a coordinator, and how results look in a terminal."""
