"""Claims per second through HTTP, beside baselines that are measured interleaved in the same run.

A round measures each variant of `variants/` once, each between two measurements of the bare handler. Only ratios to the
bare handler around a measure mean something on another machine, or on a busy one. `answers.py` does the same for what
is not a claim, `against/` compares with another revision, and `experiments/` has measures with an arrangement of their
own.
"""
