"""Many people who want the same places: what each of them does, and the load test that sends them."""
