"""Generates the pages of the documentation that restate the code or the results of a run: `make docs`."""
