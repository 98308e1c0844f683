"""Taskonomy, building by building."""
