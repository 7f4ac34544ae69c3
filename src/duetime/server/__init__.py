"""Duetime as a service: who may use it, and how."""
