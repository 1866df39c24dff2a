"""`gymnastd pretrain`: the base checkpoints, made from scratch against simulated cells."""
