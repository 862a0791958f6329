"""Tasks with verifiers: one file each, listed in ``registry``."""
