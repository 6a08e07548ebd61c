"""Fault runs: something breaks while a crowd claims, the service heals by itself, the checker counts what is lost."""
