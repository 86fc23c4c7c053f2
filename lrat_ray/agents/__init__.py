"""Search agents at work: the loop of one run, and many runs in parallel on Ray."""
