"""Operators in C, compiled on the machine that uses them; without a compiler the plain PyTorch path serves."""
