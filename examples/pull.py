"""Pulling: a consumer takes due events at its own pace, and confirms each or gives it back."""

from __future__ import annotations

import threading

from duetime import Backoff, Scheduler


def build(report: str) -> None:
    """Stand for slow work that fails at times."""
    if report == "sales" and report not in tried:
        tried.add(report)
        raise TimeoutError("the warehouse did not answer")
    print(f"{threading.current_thread().name} built {report}")


tried: set[str] = set()


def main() -> None:
    with Scheduler("memory://") as scheduler:
        for report in ("sales", "stock", "staff"):
            scheduler.schedule("report.build", report, after=0.1)
        claims = scheduler.claims("report.build", retry=Backoff(first=0.2, jitter=False))

        # As a context manager: confirmed where the block ends well, given back where it raises.
        for _ in range(4):
            for claim in claims.take(1, wait=5):
                try:
                    with claim as event:
                        build(event.payload)
                except TimeoutError as error:
                    print(f"{event.payload} is given back: {error}")

        # Or by hand: a second answer is ignored, and says so.
        scheduler.schedule("report.build", "taxes")
        for claim in claims.take(10, wait=5):
            assert claim.rollback(after=0.1, error="not today")
            assert not claim.confirm()
        for claim in claims.take(10, wait=5):
            assert claim.event.last_error == "not today"
            assert claim.confirm()
            print(f"taxes confirmed in attempt {claim.event.attempt}")


if __name__ == "__main__":
    threading.current_thread().name = "consumer"
    main()
