"""Claims per second through HTTP, beside baselines that are measured interleaved in the same run.

A round measures each variant of `variants/` once, after and before the bare handler. Only ratios to the bare handler
of the same round mean something on another machine, or on a busy one.
"""
