"""The journal: `stream` reads it in order, `entries` decodes it, `recorded_position` follows how far it is recorded."""
