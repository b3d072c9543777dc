"""Attention as one operator of torch, with a CPU kernel of its own."""
