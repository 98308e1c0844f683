"""Cityscapes as it is published, and as MTAN published it."""
