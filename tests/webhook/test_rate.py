"""The measuring of webhooks works, at a tiny size."""

from __future__ import annotations

import pytest

from tests.webhook.rate import calls, deliveries, receiver


@pytest.mark.bench
def test_the_rate_can_be_measured() -> None:
    """Both figures come out: of the sender alone, and of a node with all that belongs to it."""
    with receiver() as port:
        assert calls(port, 50, 8) > 0
        assert deliveries(port, 50, 8, "memory://") > 0
