"""Measures with an arrangement of their own."""
