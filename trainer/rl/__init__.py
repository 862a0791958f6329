"""Reinforcement learning from verifiable rewards, critic-free and reference-free."""
