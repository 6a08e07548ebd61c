"""The HTTP front: admission, validation, and the answers that people and programs read."""
