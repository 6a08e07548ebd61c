"""Measures with an arrangement of their own."""

from types import ModuleType

from loadtest.bench.experiments import fronts, growth, memory, recorder, waiting

ALL: tuple[ModuleType, ...] = (recorder, memory, waiting, growth, fronts)
