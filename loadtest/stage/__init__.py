"""What all load tests stand on: a service of their own, its program, invented people, ports and cores."""
