"""One function an operation: a request in, an answer out."""
