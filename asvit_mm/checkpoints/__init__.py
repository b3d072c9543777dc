"""Reading checkpoints without running anything that is in them, from files and addresses."""
