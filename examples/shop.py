"""Orders that expire unless they are paid: `duetime run shop:scheduler` in this folder."""

from datetime import timedelta

from duetime import Event, Retry, Scheduler

scheduler = Scheduler("sqlite:///shop.db")
paying: set[int] = set()  # orders whose payment is under way


@scheduler.on("order.expire")
def expire(event: Event) -> Retry | None:
    order = event.payload["order"]
    if order in paying:
        return Retry(after=timedelta(seconds=30))
    print(f"order {order} expired", flush=True)
    return None


if __name__ == "__main__":
    scheduler.run()
