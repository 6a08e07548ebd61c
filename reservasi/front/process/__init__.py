"""The process around a front: reload, garbage, probe."""
