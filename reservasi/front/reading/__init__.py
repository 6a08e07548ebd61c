"""What a stranger sends, as values: JSON bodies, query parameters, headers."""
