"""The journal: `stream` reads it in order, `entries` decodes it, `recorded_position` says what PostgreSQL has of it."""
