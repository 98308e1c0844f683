"""Datasets of the user's own: their code, checked call by call, and its fingerprint."""
