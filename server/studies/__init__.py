"""Studies: the user's request, its progress and its Pareto front."""
