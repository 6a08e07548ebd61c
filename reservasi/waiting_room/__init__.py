"""The waiting room before and after an opening: draw, tickets, proof of work, admission."""
