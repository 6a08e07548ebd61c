"""A crowd in a waiting room: it joins, waits for the draw and the mark, claims; and what must hold of all that."""
