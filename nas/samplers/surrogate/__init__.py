"""The default sampler: additive costs of blocks, a Gaussian process for quality, expected hypervolume improvement."""
