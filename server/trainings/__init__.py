"""Training runs: their stages, progress and curves, told by trainers and by runs on a user's own machine."""
