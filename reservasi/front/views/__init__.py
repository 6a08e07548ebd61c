"""Answers encoded from memory."""
