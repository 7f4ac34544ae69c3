"""Encrypted connections: whose certificate is believed, and that none is not taken for one."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from duetime.errors import ConfigError, StoreUnavailable
from duetime.stores.mysql import MysqlStore
from duetime.stores.mysql.connection import Way
from tests.servers.local import Address, LocalServer, running


class Certificate(NamedTuple):
    """A certificate and its key, in files."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    file: Path
    key_file: Path


def certificate(folder: Path, name: str, by: Certificate | None = None) -> Certificate:
    """Make a certificate for 127.0.0.1, signed by another, or one that may sign."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.name if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    if by is not None:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    made = builder.sign(by.key if by else key, hashes.SHA256())
    file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    for path in (file, key_file):
        path.chmod(0o644)
    return Certificate(subject, key, file, key_file)


class Secured(NamedTuple):
    """A server with a certificate of its own, and two authorities."""

    server: LocalServer
    right: Path
    wrong: Path


@pytest.fixture(scope="module")
def secured(server_kind: str, own_servers: Path) -> Iterator[Secured]:
    """Start a server whose certificate one authority has signed, the other has not."""
    folder = own_servers
    right, wrong = (certificate(folder, name) for name in ("right", "wrong"))
    own = certificate(folder, "server", right)
    options = (f"--ssl-cert={own.file}", f"--ssl-key={own.key_file}", f"--ssl-ca={right.file}")
    with running(server_kind, folder / server_kind, *options) as server:
        yield Secured(server, right.file, wrong.file)


@pytest.fixture(scope="module")
def plain(server_kind: str, own_servers: Path) -> Iterator[Address]:
    """Start a server that encrypts nothing; MySQL makes certificates unless it is told not to."""
    options = ["--tls-version="] if server_kind == "mysql" else []
    with running(server_kind, own_servers / f"plain-{server_kind}", *options) as server:
        yield server.address


@pytest.fixture
def opened() -> Iterator[Callable[[str], MysqlStore]]:
    made: list[MysqlStore] = []

    def opened(url: str) -> MysqlStore:
        made.append(MysqlStore(url))
        return made[-1]

    yield opened
    for store in made:
        store.close()


def is_encrypted(store: MysqlStore) -> bool:
    """Look at one connection."""
    found = store._database.run(
        lambda db: db.rows("SHOW STATUS LIKE 'Ssl_cipher'"), Way(checked=False)
    )
    return bool(found[0][1])


@pytest.mark.parametrize(
    ("options", "encrypted"),
    [
        ("?ssl_ca={right}", True),
        ("?ssl_mode=verify_identity&ssl_ca={right}", True),
        ("?ssl_mode=verify_ca&ssl_ca={right}", True),
        ("?ssl_mode=required", True),
        ("?ssl_mode=preferred", True),
        ("?ssl_mode=disabled", False),
        ("", False),
    ],
)
def test_encryption_is_as_asked_for(
    secured: Secured, opened: Callable[[str], MysqlStore], options: str, encrypted: object
) -> None:
    """Each way of asking for encryption gets it; on the loopback nobody asks by default."""
    url = secured.server.address.url("mysql") + options.format(right=secured.right)
    assert is_encrypted(opened(url)) is encrypted


@pytest.mark.parametrize("mode", ["", "&ssl_mode=verify_ca", "&ssl_mode=verify_identity"])
def test_a_stranger_is_refused(
    secured: Secured, opened: Callable[[str], MysqlStore], mode: str
) -> None:
    """A server whose certificate another authority has signed is refused."""
    url = f"{secured.server.address.url('mysql')}?ssl_ca={secured.wrong}{mode}"
    with pytest.raises(StoreUnavailable) as caught:
        is_encrypted(opened(url))
    assert "certificate" in str(caught.value)


def test_another_name_is_refused(secured: Secured, opened: Callable[[str], MysqlStore]) -> None:
    """A certificate for another host is refused, unless only its authority is looked at."""
    address = secured.server.address._replace(host="localhost")
    url = f"{address.url('mysql')}?ssl_ca={secured.right}"
    with pytest.raises(StoreUnavailable):
        is_encrypted(opened(url))
    assert is_encrypted(opened(url + "&ssl_mode=verify_ca"))


def test_plain_is_not_taken_for_encrypted(
    plain: Address, opened: Callable[[str], MysqlStore]
) -> None:
    """Where encryption is required and the server has none, nothing is sent."""
    with pytest.raises(StoreUnavailable):
        is_encrypted(opened(plain.url("mysql") + "?ssl_mode=required"))
    assert not is_encrypted(opened(plain.url("mysql") + "?ssl_mode=preferred"))


def test_certificates_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """A file that is missing or no certificate is refused before anything is opened."""
    broken = tmp_path / "x.pem"
    broken.write_text("no certificate")
    for file in (tmp_path / "missing.pem", broken):
        with pytest.raises(ConfigError) as caught:
            MysqlStore(f"mysql://127.0.0.1/x?ssl_ca={file}")
        assert caught.value.code == "store_tls"
