"""Training runs: their stages, progress and curves, reported by trainers and by runs on a user's own machine."""
