"""Studies: what a user asks for, its progress and its Pareto front."""
