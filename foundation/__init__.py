"""What every package stands on: errors, the registry, files that appear whole, the measurement lock, workers."""
