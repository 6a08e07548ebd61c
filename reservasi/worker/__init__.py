"""The worker's tasks for each program: own its ledger, record its journal, sweep, retire, compare, repair, rebuild."""
