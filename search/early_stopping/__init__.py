"""Which running trials are stopped: why a trial was stopped is told in `policy`."""
