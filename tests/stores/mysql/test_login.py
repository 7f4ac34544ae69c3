"""How MySQL lets a user in: by caching_sha2_password, whose first login needs a key or TLS."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pymysql
import pytest
from pymysql import _auth

from duetime.errors import StoreUnavailable
from duetime.stores.mysql import MysqlStore
from duetime.stores.mysql.connection import Way
from tests.servers.local import Address
from tests.stores.mysql.conftest import login

PASSWORD = "päss 'word"


@pytest.fixture
def tell(mysql: Address) -> Iterator[Callable[[str], None]]:
    """Return a function that gives the server an order."""
    with pymysql.connect(**login(mysql), autocommit=True) as connection:
        yield lambda statement: connection.cursor().execute(statement)


@pytest.fixture
def user(tell: Callable[[str], None]) -> Iterator[str]:
    """Make a user whom the server has never seen log in."""
    name = "duetime_sha2"
    tell(f"DROP USER IF EXISTS {name}")
    tell(f'CREATE USER {name} IDENTIFIED WITH caching_sha2_password BY "{PASSWORD}"')
    yield name
    tell(f"DROP USER {name}")


@pytest.fixture
def enter(mysql: Address, user: str) -> Callable[[str], str]:
    """Return a function that logs in and tells the cipher of the connection."""
    url = mysql._replace(user=user, password=PASSWORD).url("information_schema")

    def enter(options: str) -> str:
        store = MysqlStore(url + options)
        try:
            statement = "SHOW STATUS LIKE 'Ssl_cipher'"
            found = store._database.run(lambda db: db.rows(statement), Way(checked=False))
            return str(found[0][1])
        finally:
            store.close()

    return enter


@pytest.mark.parametrize("options", ["?ssl_mode=disabled", "?ssl_mode=preferred"])
def test_a_first_login_succeeds(
    enter: Callable[[str], str], tell: Callable[[str], None], options: str
) -> None:
    """A user whose password the server has not cached gets in, with TLS and without; so again."""
    tell("FLUSH PRIVILEGES")
    encrypted = "preferred" in options
    for _ in range(2):
        assert (enter(options) not in ("", "b''")) is encrypted


def test_a_user_who_must_encrypt_is_told(
    enter: Callable[[str], str], tell: Callable[[str], None], user: str
) -> None:
    """A user whom the server lets in by TLS alone is refused without, as one who is not let in."""
    tell(f"ALTER USER {user} REQUIRE SSL")
    with pytest.raises(StoreUnavailable) as caught:
        enter("?ssl_mode=disabled")
    assert caught.value.code == "store_denied"
    assert PASSWORD not in str(caught.value)
    assert enter("?ssl_mode=required")


def test_a_password_that_ran_out_is_told(
    enter: Callable[[str], str], tell: Callable[[str], None], user: str
) -> None:
    """A password that must be changed first is told as a login that is refused."""
    tell(f"ALTER USER {user} PASSWORD EXPIRE")
    with pytest.raises(StoreUnavailable) as caught:
        enter("")
    assert caught.value.code == "store_denied"


def test_without_the_package_it_is_told(
    enter: Callable[[str], str],
    tell: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the package for such a login is missing, the error names it; TLS needs none."""
    tell("FLUSH PRIVILEGES")
    monkeypatch.setattr(_auth, "_have_cryptography", False)
    with pytest.raises(StoreUnavailable) as caught:
        enter("?ssl_mode=disabled")
    assert caught.value.code == "store_login"
    assert "cryptography" in str(caught.value)
    assert enter("?ssl_mode=required")
