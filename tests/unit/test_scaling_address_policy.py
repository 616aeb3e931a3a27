"""Where a webhook may lead."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from function.scaling import address_policy

API = {(ipaddress.ip_address("10.96.0.1"), 443), (ipaddress.ip_address("127.0.0.1"), 6443)}


def closed(url: str, address: str, *, denied: str = "", allowed: str = "") -> str | None:
    """Return why ``url`` may not lead to ``address`` with these settings."""
    policy = address_policy.Policy(
        denied=address_policy.Rules.read([item for item in denied.split(",") if item]),
        allowed=address_policy.Rules.read([item for item in allowed.split(",") if item]),
    )
    return policy.closed(address_policy.parse(url), address_policy.address(address), API)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "169.254.169.254", "fe80::1"),
        *("::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "::127.0.0.1"),
        *(
            "fd00:ec2::254",
            "100.100.100.200",
            "64:ff9b:1::7f00:1",
            "::ffff:0:127.0.0.1",
            "168.63.129.16",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "240.0.0.1",
        ),
    ],
)
def test_no_webhook_leads_to_an_address_of_this_host_or_of_metadata(address: str) -> None:
    """Whatever IPv6 clothes it wears; a name that is allowed does not open it, a network that holds it does."""
    assert closed("http://a.example/", address) is not None
    assert closed("http://a.example/", address, allowed="*,a.example") is not None
    network = str(address_policy.address(address))
    assert closed("http://a.example/", address, allowed=network) is None


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.0.9", "172.16.5.4", "fd12::1", "8.8.8.8", "2606:4700::1"])
def test_private_and_public_addresses_are_open(address: str) -> None:
    """Receivers live in the cluster, and outside."""
    assert closed("http://receiver.team.svc/", address) is None


@pytest.mark.parametrize("allowed", ["", "*", "10.0.0.0/8,127.0.0.0/8", "kubernetes*,10.96.0.1"])
@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://innocent.example/", "10.96.0.1"),
        ("https://innocent.example:6443/", "127.0.0.1"),
        ("https://kubernetes.default.svc/", "10.1.1.1"),
        ("https://kubernetes.default.svc.cluster.local./", "10.1.1.1"),
        ("https://KUBERNETES/", "10.1.1.1"),
        ("https://[::ffff:10.96.0.1]/", "::ffff:10.96.0.1"),
    ],
)
def test_the_kubernetes_api_stays_closed_whatever_is_allowed(url: str, address: str, allowed: str) -> None:
    """By its name and by its address."""
    assert closed(url, address, allowed=allowed) == "the Kubernetes API"


@pytest.mark.parametrize("address", ["127.0.0.2", "::1", "0.0.0.0", "::", "::ffff:127.0.0.3"])
def test_an_api_of_this_host_is_closed_by_each_of_its_addresses(address: str) -> None:
    """It listens on all of them, on its port."""
    allowed = "127.0.0.0/8,::/127,0.0.0.0/8"
    assert closed("https://a.example:6443/", address, allowed=allowed) == "the Kubernetes API"
    assert closed("https://a.example:443/", address, allowed=allowed) is None


@pytest.mark.parametrize("text", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0x7f000001"])
def test_an_address_in_old_clothes_is_an_address(text: str) -> None:
    """As the resolver reads it, and without asking the resolver."""
    assert address_policy.address(text) == ipaddress.IPv4Address("127.0.0.1")


@pytest.mark.parametrize("text", ["a.example", "1.2.3.4.5", "256.1.1.1", "0x", "12345678901", "fe80", "1.2.3.4 x", ""])
def test_a_name_is_no_address(text: str) -> None:
    """It has to be resolved."""
    with pytest.raises(ValueError):
        address_policy.address(text)


def test_another_port_of_the_apis_host_is_not_the_api() -> None:
    """On a laptop it shares its address with much else."""
    assert closed("http://localhost:8080/", "127.0.0.1", allowed="127.0.0.0/8") is None


@pytest.mark.parametrize(
    ("denied", "allowed", "url", "address", "is_open"),
    [
        ("10.0.0.0/8", "", "http://a/", "10.1.1.1", False),
        ("10.0.0.0/8", "10.1.0.0/16,a", "http://a/", "10.1.1.1", False),
        ("10.0.0.0/8", "", "http://a/", "::ffff:10.1.1.1", False),
        ("*.internal", "", "http://db.internal/", "10.1.1.1", False),
        ("*.internal", "*", "http://DB.internal./", "8.8.8.8", False),
        ("8.8.8.8", "", "http://a/", "8.8.8.8", False),
        ("", "*.example.com", "http://a.example.com/", "8.8.8.8", True),
        ("", "*.example.com", "http://a.example.com./", "8.8.8.8", True),
        ("", "*.example.com", "http://a.example.org/", "8.8.8.8", False),
        ("", "*.example.com", "http://example.com/", "8.8.8.8", False),
        ("", "8.8.0.0/16", "http://anything/", "8.8.8.8", True),
        ("", "8.8.0.0/16", "http://anything/", "9.9.9.9", False),
        ("", "127.0.0.1", "http://localhost/", "127.0.0.1", True),
        ("", "localhost", "http://localhost/", "127.0.0.1", False),
        ("169.254.0.0/16", "169.254.0.0/16", "http://a/", "169.254.1.1", False),
    ],
)
def test_denied_wins_and_allowed_closes_the_rest(
    denied: str, allowed: str, url: str, address: str, is_open: bool
) -> None:
    """WEBHOOK_DENIED_HOSTS and WEBHOOK_ALLOWED_HOSTS, names by globs and addresses by networks."""
    assert (closed(url, address, denied=denied, allowed=allowed) is None) == is_open


@pytest.mark.parametrize(
    ("text", "host", "port", "path"),
    [
        ("https://Example.com", "example.com", 443, "/"),
        (" http://a_b.example:8080/x?y=1#z\n", "a_b.example", 8080, "/x?y=1"),
        ("http://[2001:DB8::1]:81/", "2001:db8::1", 81, "/"),
        ("http://safe.example@evil.example/", "evil.example", 80, "/"),
        ("http://2130706433/", "2130706433", 80, "/"),
    ],
)
def test_a_url_is_read_once(text: str, host: str, port: int, path: str) -> None:
    """What is checked is what is connected to."""
    url = address_policy.parse(text)
    assert (url.host, url.port, url.path) == (host, port, path)


@pytest.mark.parametrize(
    "text",
    [
        *("", "example.com/x", "file:///etc/passwd", "gopher://x/", "//x/y", "http://", "http://a b/", "http://a\\@b/"),
        *("http://x:0/", "http://x:70000/", "http://[fe80::1%25eth0]/", "http://[::1", "http://a..b/", "http://ü/"),
        *("http://a/\r\nX: y", "javascript:alert(1)", "http://-a/", "http://a%00b/"),
    ],
)
def test_what_is_no_url_of_a_webhook_is_refused(text: str) -> None:
    """Only http and https, with a host."""
    with pytest.raises(address_policy.BadUrl):
        address_policy.parse(text)


@given(st.text())
def test_any_text_is_a_url_or_refused(text: str) -> None:
    """And nothing else; the sentence is one of ours, and holds no character of the text."""
    try:
        url = address_policy.parse(text)
    except address_policy.BadUrl as exc:
        assert str(exc) in {
            "is empty, or has characters that a url cannot have",
            "is not a url",
            "does not begin with http:// or https://",
            "has no host and port that can be connected to",
        }
        return
    assert url.scheme in ("http", "https")


@given(st.ip_addresses())
def test_an_address_in_the_url_is_the_one_that_is_connected_to(address: ipaddress.IPv4Address) -> None:
    """The rebuilt url reads as that address and nothing else."""
    rebuilt = address_policy.parse(address_policy.parse("https://user:x@a.example:8443/p?q=1").at(address))
    assert (rebuilt.host, rebuilt.port, rebuilt.path, rebuilt.userinfo) == (str(address), 8443, "/p?q=1", "")
