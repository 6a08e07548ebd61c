"""The HTTP contract: operations, bodies, problems, languages; requests and answers as values."""
