"""Artifacts: content-addressed files, streamed, verified, resumable."""
