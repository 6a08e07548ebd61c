"""Where people wait before and after an opening: the draw, the tickets, the proof of work, the admission."""
