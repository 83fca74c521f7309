"""The workshop: degradations, caches of patches, and the training loop behind ``train.py``."""
