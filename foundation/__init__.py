"""What every package builds on: errors, the registry, atomic files, the measurement lock, worker processes."""
