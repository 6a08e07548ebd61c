"""How many offices, programs and fronts one ledger carries: what each costs it, in work and not in seconds."""
