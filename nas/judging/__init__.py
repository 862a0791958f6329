"""Where judgements run: worker processes of the coordinator's machine, or tasks of a Ray cluster."""
