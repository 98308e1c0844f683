"""Which λ, and what else is open, to try next: the search space, Optuna's study and samplers, racing."""
