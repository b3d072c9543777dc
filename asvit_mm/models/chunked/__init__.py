"""Attention, feed-forward layers and patch merging on some tokens at a time, within the caches.

On a CPU what a training step spends beside its matrix products goes to memory: queries, keys and values are
three times the tokens that they are made of, a hidden layer E times, patches of kernel 4 four times, and each
is asked from the system, written and read again by every operation between two products. In chunks none of
them is ever there as a whole, nor what leaves a norm or an activation. For the backward pass attention keeps
its tokens and what the heads give, and computes the norm, queries, keys and values again; feed-forward layers
keep their tokens and what goes into the activation; merging keeps its tokens and cuts them again. Attention
runs so where memory is to be saved (``with_cp='attention'``), since computing again takes time. Values differ
from those of the layers one after the other by rounding only. Figures: docs/performance.md.
"""
