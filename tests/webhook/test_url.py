"""Which URLs are understood, and which are refused because they might be understood otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetime.errors import InvalidInput
from duetime.webhook.policy import Policy
from duetime.webhook.url import Url, parse_url

REFUSED = {
    f"{'file'}:///etc/passwd": "url_scheme",
    "ftp://example.com/": "url_scheme",
    "gopher://example.com:25/_x": "url_scheme",
    "javascript:alert(1)": "url_scheme",
    "data:text/plain,x": "url_scheme",
    "ws://example.com/": "url_scheme",
    "https:///path": "url_host",
    "https://": "url_host",
    "https:example.com": "url_host",
    "https://:443/": "url_invalid",
    "//example.com/": "url_invalid",
    "example.com": "url_invalid",
    "": "url_invalid",
    "https://user@example.com/": "url_userinfo",
    "https://user:password@example.com/": "url_userinfo",
    "https://example.com@127.0.0.1/": "url_userinfo",
    "https://@example.com/": "url_userinfo",
    "https://example.com/#part": "url_fragment",
    "https://example.com#@127.0.0.1/": "url_fragment",
    "https://example.com/\r\nHost: x": "url_invalid",
    "https://example.com/a b": "url_invalid",
    "https://example.com/\t": "url_invalid",
    "https://example.com\\@127.0.0.1/": "url_invalid",
    "https://exämple.com/": "url_invalid",
    "https://①②⑦.⓪.⓪.①/": "url_invalid",
    "https://example.com/é": "url_invalid",
    "https://example.com/%zz": "url_invalid",
    "https://example.com/<x>": "url_invalid",
    "https://example.com:0/": "url_port",
    "https://example.com:65536/": "url_port",
    "https://example.com:4x/": "url_invalid",
    "https://example.com:/": "url_invalid",
    "https://exam%70le.com/": "url_invalid",
    "https://a..b/": "url_invalid",
    "https://-a.com/": "url_invalid",
    "https://example.com./": "url_invalid",
    "https://" + "a" * 64 + ".com/": "url_invalid",
    "https://" + "a." * 127 + "com/": "url_invalid",
    "https://[::1/": "url_invalid",
    "https://[::1%25lo]/": "url_invalid",
    "https://[fe80::zz]/": "url_invalid",
    "https://[::1]x/": "url_invalid",
    "https://localhost/": "url_blocked",
    "https://LOCALHOST./": "url_blocked",
    "https://a.localhost/": "url_blocked",
    "https://2130706433/": "url_blocked",
    "https://0x7f.1/": "url_blocked",
    "https://0x7f000001/": "url_blocked",
    "https://017700000001/": "url_blocked",
    "https://127.1/": "url_blocked",
    "https://0177.0.0.1/": "url_blocked",
    "https://127.0.0.1./": "url_blocked",
    "https://1.2.3.256/": "url_blocked",
    "https://1.2.3.4.5/": "url_blocked",
    "https://example.com/" + "a" * 2029: "url_invalid",
}
NOT_PUBLIC_TEXT = """
127.0.0.1 10.1.2.3 192.168.0.1 169.254.169.254 0.0.0.0 [::1] [::ffff:127.0.0.1]
[64:ff9b::7f00:1] [2002:7f00:1::] [fe80::1] [fd00:ec2::254] [::]
"""


@pytest.mark.parametrize(("text", "code"), REFUSED.items(), ids=lambda text: text[:40])
def test_a_bad_url_is_refused(text: str, code: str) -> None:
    """A URL that is not plain is refused with what is wrong."""
    with pytest.raises(InvalidInput) as caught:
        parse_url(text)
    assert (caught.value.code, caught.value.field) == (code, "url")


def test_a_url_is_taken_apart() -> None:
    """Scheme and host are in lower case, the port is known, the rest stays as it is."""
    assert parse_url("HTTPS://Example.COM/A/../b?c=%2F&d=é"[:-1]) == Url(
        "https", "example.com", 443, "/A/../b?c=%2F&d=", False
    )
    assert parse_url("http://example.com:8080") == Url("http", "example.com", 8080, "/", False)
    assert parse_url("https://example.com?a=1").tail == "/?a=1"
    assert parse_url("https://[2606:4700::0:1111]:8443/") == Url(
        "https", "2606:4700::1111", 8443, "/", True
    )
    assert parse_url("https://1.2.3.4/").is_address
    assert parse_url("https://_dmarc.my-host_1.example/").host == "_dmarc.my-host_1.example"
    assert len(str(parse_url("https://example.com/" + "a" * 2028))) == 2048 + len(":443")


@pytest.mark.parametrize(
    "text", ["https://example.com/x?y", "http://[2606:4700::1111]:81/", "https://1.2.3.4"]
)
def test_what_is_put_together_is_the_same(text: str) -> None:
    """A URL that was taken apart and put together is the same URL."""
    url = parse_url(text)
    assert parse_url(str(url)) == url


@given(st.text(st.characters(max_codepoint=0x2FF), max_size=30))
def test_nothing_but_our_own_error_comes_out(text: str) -> None:
    """Any text is either a URL whose parts are clean, or refused."""
    for candidate in (text, f"https://{text}", f"https://a.example/{text}"):
        try:
            url = parse_url(candidate)
        except InvalidInput:
            continue
        assert str(url).isascii()
        assert not set("\r\n \t@#\\") & set(url.host)
        assert 1 <= url.port <= 65_535
        assert url.tail.startswith("/")


@pytest.mark.parametrize("host", NOT_PUBLIC_TEXT.split())
def test_an_address_that_is_not_public_is_blocked(host: str) -> None:
    """An address in a URL is judged when the webhook is made."""
    policy = Policy()
    with pytest.raises(InvalidInput, match="address") as caught:
        policy.check(parse_url(f"https://{host}/"), policy.guard())
    assert caught.value.code == "url_blocked"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("http://example.com/", "url_scheme"),
        ("https://example.com:22/", "url_blocked"),
        ("https://example.com:25/", "url_blocked"),
        ("https://example.com:6379/", "url_blocked"),
    ],
)
def test_the_policy_is_narrow_by_itself(text: str, code: str) -> None:
    """Without settings, only https is called, and only at the ports of the web."""
    policy = Policy()
    with pytest.raises(InvalidInput) as caught:
        policy.check(parse_url(text), policy.guard())
    assert caught.value.code == code
    Policy(allow_http=True, ports=(80, 22, 25, 443, 6379)).check(parse_url(text), policy.guard())


def test_hosts_can_be_listed() -> None:
    """With a list of hosts, only those are called: a name itself, or all below one."""
    policy = Policy(hosts=("example.com", ".hooks.example"))
    guard = policy.guard()
    for host in ("example.com", "a.hooks.example", "a.b.hooks.example"):
        policy.check(parse_url(f"https://{host}/"), guard)
    for host in ("www.example.com", "hooks.example", "badhooks.example", "example.com.evil.test"):
        with pytest.raises(InvalidInput, match="not on the list"):
            policy.check(parse_url(f"https://{host}/"), guard)


@pytest.mark.parametrize(
    "settings",
    [
        {"ports": (0,)},
        {"ports": ("443",)},
        {"ports": (True,)},
        {"hosts": ("Example.com",)},
        {"hosts": ("",)},
        {"hosts": (7,)},
        {"allow_networks": ("10.0.0.0/40",)},
    ],
)
def test_a_policy_that_cannot_be_is_refused(settings: dict[str, tuple[str, ...]]) -> None:
    """A policy of the wrong shape is refused when it is made."""
    with pytest.raises(InvalidInput):
        Policy(**settings)  # type: ignore[arg-type] # what is tested
