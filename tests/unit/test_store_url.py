"""Store URLs are taken apart and checked, and never show a password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetime.errors import ConfigError
from duetime.store_url import parse_store, redact

CANARY = "hunter2"
TLS = (("ssl_ca", "/a b"), ("ssl_mode", "verify_ca"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("memory://", ("memory", "")),
        ("sqlite:///a.db", ("sqlite", "a.db")),
        ("sqlite:////var/lib/a.db", ("sqlite", "/var/lib/a.db")),
        ("sqlite:///dir/my%20file.db", ("sqlite", "dir/my file.db")),
        ("sqlite:///50%.db", ("sqlite", "50%.db")),
        ("sqlite+sqlite3:///a.db", ("sqlite+sqlite3", "a.db")),
        ("SQLite+sqlite3:////v/a.db", ("sqlite+sqlite3", "/v/a.db")),
        ("sqlite:///ü#1.db", ("sqlite", "ü#1.db")),
    ],
)
def test_store_urls(url: str, expected: tuple[str, str]) -> None:
    """Three slashes begin a relative path, four an absolute one."""
    found = parse_store(url)
    assert (found.scheme, found.path) == expected
    assert str(found) == f"{expected[0]}:///{expected[1]}".removesuffix("/" * (not expected[1]))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql://u:p@db/shop", ("db", 3306, "u", "p", "shop", ())),
        ("mariadb://u@db:3307/shop", ("db", 3307, "u", "", "shop", ())),
        ("mysql+pymysql://[::1]:3/x", ("::1", 3, "", "", "x", ())),
        ("mysql://a%40b:p%2F%25:@c@db/x%20y", ("db", 3306, "a@b", "p/%:@c", "x y", ())),
        ("mysql://db/x?ssl_ca=/a%20b&ssl_mode=verify_ca", ("db", 3306, "", "", "x", TLS)),
        ("postgresql://u:p@db/shop", ("db", 5432, "u", "p", "shop", ())),
        ("postgres://db:1/x?sslmode=require", ("db", 1, "", "", "x", (("sslmode", "require"),))),
        ("postgresql+psycopg://db/x?host=/run", ("db", 5432, "", "", "x", (("host", "/run"),))),
    ],
)
def test_server_urls(url: str, expected: tuple[object, ...]) -> None:
    """A server's URL is taken apart into host, port, user, password, database and options."""
    found = parse_store(url)
    scheme = "postgresql" if url.startswith("postgres") else "mysql"
    assert (found.scheme, found.path) == (scheme, "")
    assert found[2:8] == expected
    assert found.places == (expected[:2],)


@pytest.mark.parametrize(
    ("url", "places"),
    [
        ("mysql://u:p@a,b:1,[::1]:3/x", (("a", 3306), ("b", 1), ("::1", 3))),
        ("mariadb://a:1,a:2/x?ssl_mode=required", (("a", 1), ("a", 2))),
        ("postgresql://u@a,b/x", (("a", 5432), ("b", 5432))),
    ],
)
def test_several_servers(url: str, places: tuple[tuple[str, int], ...]) -> None:
    """Servers that stand in for one another are separated by commas, each with its own port."""
    found = parse_store(url)
    assert found.places == places
    each = found.each()
    assert tuple(one.places[0] for one in each) == places
    assert {one[4:8] for one in each} == {found[4:8]}
    assert not any(one.others for one in each)
    shown = ",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in places)
    assert shown in str(found)
    assert parse_store(str(found)).places == places


def test_a_store_url_shows_no_password() -> None:
    """A parsed URL shows its place, and its password in no form."""
    found = parse_store(f"mysql://u:{CANARY}@[::1]:3307/x")
    assert str(found) == "mysql://u@[::1]:3307/x"
    assert CANARY not in f"{found} {found!r} {[found]}"


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("", "sqlite:///"),
        ("duetime.db", "sqlite:///"),
        ("sqlite://a.db", "sqlite:///relative"),
        ("sqlite:///", "sqlite:///relative"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///a.db?mode=ro", "options"),
        ("sqlite:///~/a.db", "~"),
        ("sqlite:///dir/", "final"),
        ("sqlite:///a%00.db", "control"),
        ("sqllite:///a.db", "sqlite?"),
        ("redis://localhost", "sqlite, memory"),
        ("mysqll://localhost/x", "mysql?"),
        ("mysql+aiomysql://localhost/x", "pymysql"),
        ("mysql://localhost", "a database"),
        ("mysql://localhost/", "a database"),
        ("mysql://localhost/a/b", "a database"),
        ("mysql:///x", "host"),
        ("mysql://db:0/x", "port"),
        ("mysql://db:70000/x", "port"),
        ("mysql://a:b?c@db/x", "%3F"),
        ("mysql://db/x%0a", "control"),
        ("mysql://db/x?ssl_mod=required", "ssl_mode?"),
        ("mysql://db/x?ssl_mode=on", "verify_identity"),
        ("mysql://db/x?ssl_ca", "one value"),
        ("mysql://db/x?ssl_ca=a&ssl_ca=b", "one value"),
        ("mysql://db/x?ssl_ca=a&ssl_mode=preferred", "looked at"),
        ("mysql://db/x?ssl_cert=a", "go together"),
        ("postgresq://localhost/x", "postgresql?"),
        ("postgresql+psycopg2://localhost/x", "psycopg"),
        ("postgresql://localhost", "a database"),
        ("postgresql://db/x?sslmode=required", "verify-full"),
        ("postgresql://db/x?ssl_mode=require", "sslmode?"),
        ("postgresql://db/x?sslcert=a", "go together"),
        ("mysql://a,/x", "host"),
        ("mysql://a,b:0/x", "port"),
        ("mysql://a:1,a:1/x", "twice"),
        ("mysql://a,a:3306/x", "twice"),
        ("mysql://a,b/x?unix_socket=/s", "socket"),
        ("postgresql://a,b/x?host=/run", "socket"),
        ("memory://x", "alone"),
    ],
)
def test_other_store_urls_are_refused(url: str, advice: str) -> None:
    """A wrong URL is refused with what to write instead."""
    with pytest.raises(ConfigError) as caught:
        parse_store(url)
    error = caught.value
    assert (error.code, error.field) == ("store_url_invalid", "store")
    assert advice in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////a/b.db",
        "memory://",
        "mysql://db:3306/x",
        "mysql://db/x?a=b",
        "mysql://[::1]:3/x",
        "mysql://a,b:2,c/x",
    ],
)
def test_urls_without_a_password_stay_readable(url: str) -> None:
    """Redaction leaves alone what holds no password."""
    assert redact(url) == url


def test_a_redacted_url_still_tells_the_place() -> None:
    """User, host and database remain visible."""
    assert redact(f"mysql://root:{CANARY}@db:3306/x") == "mysql://root:***@db:3306/x"
    assert redact(f"mysql://r:{CANARY}@a:1,b:2/x") == "mysql://r:***@a:1,b:2/x"
    assert CANARY not in redact(f"mysql://a:1,b:{CANARY}/x")


@given(st.text(max_size=60))
def test_any_text_can_be_redacted_and_refused(text: str) -> None:
    """No text breaks the redaction or the check of a URL."""
    assert isinstance(redact(text), str)
    try:
        parse_store(text)
    except ConfigError as error:
        assert str(error).isascii()  # noqa: PT017  # a text may also be right
