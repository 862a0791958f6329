"""What a stage leaves for the world: a measured program, a stock Hugging Face directory, GGUF and a model card."""
