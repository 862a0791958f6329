"""One file per published claim, and the commands that tie the packages together on one machine."""
