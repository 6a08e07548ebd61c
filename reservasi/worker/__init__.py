"""The worker's part for each program: own its ledger, record its journal, sweep, retire, compare, repair, rebuild."""
