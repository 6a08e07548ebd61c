"""Fair, exact and verifiable reservations for the minute when a public quota opens."""

__version__ = "0.2.0"
