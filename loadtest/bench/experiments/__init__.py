"""Measures with an arrangement of their own."""

from types import ModuleType

from loadtest.bench.experiments import growth, memory

ALL: tuple[ModuleType, ...] = (memory, growth)
