"""The promises of a store, by subject; `duetime.testing.store_suite` puts them together."""

from __future__ import annotations

__all__: list[str] = []
