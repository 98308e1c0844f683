"""Which running trials are stopped early. Why a trial was stopped is told by `policy`."""
