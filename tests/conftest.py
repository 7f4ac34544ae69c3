"""What all tests share: a quick profile of Hypothesis, and a thorough one on demand."""

from __future__ import annotations

import os

from hypothesis import settings

pytest_plugins = ["tests.servers.plugin", "tests.faults.plugin"]

settings.register_profile("quick", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
