"""Store URLs: taken apart, checked, and shown without their passwords."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from duetime.errors import ConfigError

__all__ = ["StoreUrl", "parse_store", "redact"]

_SSL_MODES = ("disabled", "preferred", "required", "verify_ca", "verify_identity")
_FILES = ("ssl_ca", "ssl_cert", "ssl_key")
_EMBEDDED = ("sqlite", "memory")
# What may follow the plus sign of sqlite, and the scheme that it makes.
_LIBRARIES = {"": "sqlite", "apsw": "sqlite", "sqlite3": "sqlite+sqlite3"}
_POSTGRES_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_POSTGRES_FILES = ("sslrootcert", "sslcert", "sslkey")


class _Server(NamedTuple):
    scheme: str  # the name of the store
    port: int  # where such a server listens unless told otherwise
    drivers: tuple[str, ...]  # what may follow a plus sign, as SQLAlchemy writes it
    options: tuple[str, ...]  # what may follow the question mark


_MYSQL = _Server("mysql", 3306, ("pymysql",), ("ssl_mode", *_FILES, "unix_socket"))
# The options as libpq names them; host is the folder of a Unix socket.
_POSTGRES = _Server("postgresql", 5432, ("psycopg",), ("sslmode", *_POSTGRES_FILES, "host"))
_SERVERS = {
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
}


class StoreUrl(NamedTuple):
    """Where the events are; its password shows in no repr."""

    # "sqlite", "sqlite+sqlite3" (by the standard library), "memory", "mysql" (MariaDB too) or
    # "postgresql"
    scheme: str
    path: str = ""  # of the file; empty for all but sqlite
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = ""
    database: str = ""
    options: tuple[tuple[str, str], ...] = ()  # by name, e.g. ("ssl_ca", "/etc/ca.pem")
    others: tuple[tuple[str, int], ...] = ()  # (host, port) to go to when the first is away

    def __repr__(self) -> str:
        """Show everything but the password."""
        return f"StoreUrl({self})"

    def __str__(self) -> str:
        """Return the place for messages, without the password."""
        if self.scheme == "memory":
            return "memory://"
        if not self.host:
            return f"{self.scheme}:///{self.path}"
        user = f"{self.user}@" if self.user else ""
        hosts = ((f"[{host}]" if ":" in host else host, port) for host, port in self.places)
        places = ",".join(f"{host}:{port}" for host, port in hosts)
        return f"{self.scheme}://{user}{places}/{self.database}"

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Each (host, port), in the order in which they are tried."""
        return ((self.host, self.port), *self.others)

    def each(self) -> list[StoreUrl]:
        """Return the URL of every server by itself."""
        return [self._replace(host=host, port=port, others=()) for host, port in self.places]

    def option(self, name: str) -> str | None:
        """Return an option of the URL, or None."""
        return dict(self.options).get(name)


def parse_store(url: str) -> StoreUrl:
    """Take a store URL apart; `%41` and the like are decoded. Raises `store_url_invalid`."""
    scheme, separator, rest = url.partition("://")
    name, plus, driver = scheme.lower().partition("+")
    if not separator:
        raise _bad_url(
            url,
            "it must look like sqlite:///file.db, sqlite:////full/path, "
            "mysql://user:password@host/database, postgresql://... or memory://",
        )
    if name in _SERVERS:
        server = _SERVERS[name]
        if plus and driver not in server.drivers:
            raise _bad_url(url, f"the driver is {' or '.join(server.drivers)}")
        return _parse_server(url, server, rest)
    if scheme == "memory" and rest.strip("/") == "":
        return StoreUrl("memory")
    if scheme == "memory":
        raise _bad_url(url, "memory:// stands alone, with nothing behind it")
    if name == "sqlite":
        if driver not in _LIBRARIES or (plus and not driver):
            raise _bad_url(url, "the library is apsw, as without a plus sign, or sqlite3")
        return StoreUrl(_LIBRARIES[driver], _path(url, rest))
    near = _near(name, [*_EMBEDDED, *_SERVERS])
    raise _bad_url(url, near or "the scheme must be sqlite, memory, mysql, mariadb or postgresql")


def _path(url: str, rest: str) -> str:
    path = unquote(rest[1:])
    if not rest.startswith("/") or path.strip("/") == "":
        raise _bad_url(url, "a file is written sqlite:///relative.db or sqlite:////full/path.db")
    if path == ":memory:":
        raise _bad_url(url, "events that need not outlive the process are kept by memory://")
    if "?" in path or path.startswith("~") or path.endswith("/"):
        raise _bad_url(url, 'the path is taken as it stands: no "?options", no "~", no final "/"')
    if _has_control(path):
        raise _bad_url(url, "the path holds a control character")
    return path


def _parse_server(url: str, server: _Server, rest: str) -> StoreUrl:
    """Take apart what follows the scheme of a database server."""
    main, _, query = rest.partition("?")
    login, at, place = main.rpartition("@")
    address, slash, database = place.partition("/")
    user, _, password = login.partition(":") if at else ("", "", "")
    (host, port), *others = _addresses(url, server, address)
    database = unquote(database)
    if not slash or not database or "/" in database:
        raise _bad_url(url, f"it needs a database: {server.scheme}://user:password@host/database")
    parts = (unquote(user), unquote(password), database)
    if any(_has_control(part) for part in parts):
        raise _bad_url(url, "it holds a control character")
    options = _options(url, server, query)
    if others and {"unix_socket", "host"} & dict(options).keys():
        raise _bad_url(url, "a socket is on this machine: name it alone, or several hosts")
    return StoreUrl(server.scheme, "", host, port, *parts, options, tuple(others))


def _addresses(url: str, server: _Server, text: str) -> list[tuple[str, int]]:
    """Return (host, port) of each server, as they are written: separated by commas."""
    found: list[tuple[str, int]] = []
    for part in text.split(","):
        match = _ADDRESS.fullmatch(part)
        if match is None:
            raise _bad_url(
                url,
                "the host or port cannot be read; in a user or password write ? as %3F, / as %2F "
                "and % as %25",
            )
        port = int(match["port"] or server.port)
        if not 0 < port < 65536:
            raise _bad_url(url, "the port must be from 1 to 65535")
        place = (match["v6"] or match["host"], port)
        if place in found:
            raise _bad_url(url, "it names a server twice")
        found.append(place)
    return found


def _options(url: str, server: _Server, query: str) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, separator, value = part.partition("=")
        if name not in server.options:
            near = _near(name, list(server.options))
            raise _bad_url(url, f"it has an unknown option: {near or ', '.join(server.options)}")
        if not separator or not value or name in found or _has_control(unquote(value)):
            raise _bad_url(url, f"{name} must have one value")
        found[name] = unquote(value)
    mode = found.get("ssl_mode")
    if mode is not None and mode not in _SSL_MODES:
        raise _bad_url(url, f"ssl_mode must be {', '.join(_SSL_MODES[:-1])} or {_SSL_MODES[-1]}")
    if mode in ("disabled", "preferred") and any(name in found for name in _FILES):
        raise _bad_url(url, f"with ssl_mode={mode} no certificate is looked at")
    pair = ("sslcert", "sslkey") if server is _POSTGRES else ("ssl_cert", "ssl_key")
    if (pair[0] in found) != (pair[1] in found):
        raise _bad_url(url, f"{pair[0]} and {pair[1]} go together")
    mode = found.get("sslmode")
    if mode is not None and mode not in _POSTGRES_MODES:
        names = f"{', '.join(_POSTGRES_MODES[:-1])} or {_POSTGRES_MODES[-1]}"
        raise _bad_url(url, f"sslmode must be {names}")
    return tuple(found.items())


def _has_control(text: str) -> bool:
    return any(ord(c) < 32 or ord(c) == 127 for c in text)


def _near(name: str, names: list[str]) -> str:
    import difflib  # noqa: PLC0415 - only for a message

    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean {close[0]}?" if close else ""


def redact(url: str) -> str:
    """Return a URL or DSN with every password replaced by ***; rather too much than too little."""
    url = _PASSWORD_WORD.sub(r"\1***", url)
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    user, at, place = rest.rpartition("@")
    if at:
        user = user.partition(":")[0] + (":***" if ":" in user else "")
    elif separator and not _HOST_PORT.match(rest):
        place = rest.partition(":")[0] + ":***"
    return f"{scheme}{separator}{user}{at}{place}"


_ADDRESS = re.compile(
    r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9._-]{1,253}))(?::(?P<port>[0-9]{1,5}))?"
)
_PASSWORD_WORD = re.compile(
    r"(?i)((?:[a-z_]*pass(?:word|wd|phrase)?|pwd|[a-z_]*secret|[a-z_]*token|api_?key)\s*=\s*)"
    r"""("[^"]*"?|'[^']*'?|[^\s&;]*)"""
)
_HOST_PORT = re.compile(
    r"[^:/?,]*(?::\d{1,5})?(?:,[^:/?,]*(?::\d{1,5})?)*(?:[/?].*)?$|\[[0-9a-fA-F:.]*\]|/", re.DOTALL
)


def _bad_url(url: str, reason: str) -> ConfigError:
    return ConfigError(
        f"store {ascii(redact(url))[:160]}: {reason}.", code="store_url_invalid", field="store"
    )
