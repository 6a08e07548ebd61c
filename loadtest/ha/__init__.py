"""High availability, measured: one primary, two replicas and three sentinels, and what a failover costs."""
