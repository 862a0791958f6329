"""From a winner to a trained model: the worker that leases training jobs, and its stages."""
