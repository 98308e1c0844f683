"""Rendered rooms: scenes drawn from a seed, and their labels."""
