"""Whole nodes in virtual time: production stages, a seed, faults, and a checker per promise."""

from __future__ import annotations

from duetime.testing.simulation.run import Report, Simulation, simulate

__all__ = ["Report", "Simulation", "simulate"]
