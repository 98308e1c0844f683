"""Which running trials are stopped early. `policy` explains why a trial was stopped."""
