"""The stages of training, each a frozen config that fills one folder."""
