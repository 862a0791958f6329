"""A thin training loop on FSDP2, distributed checkpoints and torchrun; one process needs none of them."""
