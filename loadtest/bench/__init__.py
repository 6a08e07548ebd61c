"""Claims per second through HTTP, beside baselines that are measured interleaved in the same run.

A round measures each variant of `variants/` once, each between two measurements of the bare handler; where that moved
meanwhile, the measure is repeated. Only ratios to the bare handler around a measure mean something on another machine,
or on a busy one. `reads.py` does the same for answers out of memory, `experiments/` has measures with an arrangement of
their own, and `targets.py` says what the figures are held against.
"""
