"""How trials are run: one trial, Ray and Ray Tune, failures and interrupts."""
