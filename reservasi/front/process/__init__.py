"""The process of a front: reload, garbage collection, probe."""
