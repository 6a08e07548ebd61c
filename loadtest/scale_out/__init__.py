"""More than one primary: what a cluster adds, in work and not in seconds, and what it costs."""
