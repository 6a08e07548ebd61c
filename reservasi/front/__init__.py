"""The HTTP front: admission, validation and answers."""
