"""The policy of claims and joins, decided once, and what every handler gets."""
