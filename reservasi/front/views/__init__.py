"""Answers encoded from memory, and what they show."""
