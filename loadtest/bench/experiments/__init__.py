"""Measures with an arrangement of their own."""

from types import ModuleType

from loadtest.bench.experiments import fronts, growth, memory, recorder

ALL: tuple[ModuleType, ...] = (recorder, memory, growth, fronts)
