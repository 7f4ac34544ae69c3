"""What Duetime's own tests are built on, shipped for yours."""

from __future__ import annotations

__all__: list[str] = []
