"""Proof under load: crowds far larger than the places, and a checker that reads afterwards what became of them."""
