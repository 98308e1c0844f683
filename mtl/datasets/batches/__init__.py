"""Batches of a split, with augmentation."""
