"""What every command begins with: its common options, the settings and the scheduler."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import click

from duetime.cli.output import Output
from duetime.config import Settings, load, parse_store
from duetime.errors import ConfigError

if TYPE_CHECKING:
    from duetime.scheduler import Scheduler

__all__ = ["Session", "common"]

F = TypeVar("F", bound=Callable[..., Any])


class Session:
    """One invocation of a command; as a context manager it closes what it opened."""

    def __init__(
        self,
        *,
        store: str | None,
        namespace: str | None,
        config: Path | None,
        as_json: bool,
        debug: bool,
    ) -> None:
        self.arguments: dict[str, Any] = {"store": store, "namespace": namespace}
        self.config = config
        self.debug = debug
        self.output = Output(as_json=as_json)
        self._scheduler: Scheduler | None = None

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings of this invocation. Raises ConfigError."""
        return load(self.config, **self.arguments)

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler, made at first use. Raises ConfigError or StoreError."""
        if self._scheduler is None:
            if parse_store(self.settings.store).scheme == "memory":
                raise ConfigError(
                    "memory:// lives in one process: this command would see an empty store and "
                    "lose what it stored. Give the store of your program with --store.",
                    code="store_memory",
                    field="store",
                )
            from duetime.scheduler import Scheduler  # noqa: PLC0415 - heavy, not always needed
            from duetime.stores import open_store  # noqa: PLC0415 - as above

            # Opened here so that a mistyped path is told: a Scheduler would make the file, and
            # what is scheduled into it would never fire.
            self._scheduler = Scheduler(open_store(self.settings), settings=self.settings)
        return self._scheduler

    def now(self) -> int:
        """Return the store's time in µs since 1970 UTC."""
        return self.scheduler.store.time()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the scheduler, if there is one."""
        if self._scheduler is not None:
            self._scheduler.close()


def common(function: F) -> F:
    """Give a command the common options, and a Session as its first argument."""

    @click.option("--store", metavar="URL", help="Where the events are, e.g. sqlite:///shop.db.")
    @click.option("--namespace", metavar="NAME", help="Which scheduler in that database.")
    @click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="A TOML or JSON file of settings.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.option("--debug", is_flag=True, help="With an error, show where it arose.")
    @functools.wraps(function)
    def wrapper(
        *,
        store: str | None,
        namespace: str | None,
        config: Path | None,
        as_json: bool,
        debug: bool,
        **rest: Any,
    ) -> Any:
        session = Session(
            store=store, namespace=namespace, config=config, as_json=as_json, debug=debug
        )
        with session:
            return function(session, **rest)

    return wrapper  # type: ignore[return-value]  # click replaces the signature anyway
