"""The proximal operators: the mathematics, the groups, and the kernel in C."""
