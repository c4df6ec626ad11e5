"""Which addresses may be posted to."""

from ipaddress import ip_network

import pytest

from turnstream_relay.addresses import is_permitted

PUBLIC = [
    "1.1.1.1",
    "93.184.215.14",
    "172.32.0.1",
    "2606:4700:4700::1111",
    "::ffff:1.1.1.1",
    "2002:101:101::1",  # 6to4 of 1.1.1.1
    "64:ff9b::1.1.1.1",
]
NOT_PUBLIC = {
    "unspecified": ["0.0.0.0", "::", "0.1.2.3"],  # noqa: S104
    "loopback": ["127.0.0.1", "127.1.2.3", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd00::1", "fc00::1"],
    "link-local": ["169.254.169.254", "fe80::1", "fe80::1%1", "fe80::1%eth0"],
    "site-local": ["fec0::1"],
    "CGNAT": ["100.64.0.1", "100.127.255.255"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "broadcast": ["255.255.255.255"],
    "reserved": ["240.0.0.1", "192.0.0.1", "4000::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1"],
    "benchmarks": ["198.18.0.1"],
    "IPv4-mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:0"],
    "IPv4-compatible": ["::127.0.0.1", "::10.0.0.1"],
    "6to4": ["2002:7f00:1::1", "2002:a00:1::1", "2002:a9fe:a9fe::1"],
    "Teredo": ["2001:0:102:304:0:ffff:80ff:fffe", "2001:0:a00:1:0:ffff:fefe:fefe"],  # its client, its server is private
    "of a cloud's own services": ["168.63.129.16"],
    "NAT64": ["64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::10.0.0.1"],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_public_ones(address: str) -> None:
    assert is_permitted(address, ())


@pytest.mark.parametrize("address", [address for kind in NOT_PUBLIC.values() for address in kind])
def test_all_others_are_not(address: str) -> None:
    assert not is_permitted(address, ())


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("127.0.0.1", "127.0.0.0/8"),
        ("10.1.2.3", "10.1.0.0/16"),
        ("100.64.0.1", "100.64.0.0/10"),
        ("169.254.1.1", "169.254.0.0/16"),
        ("::1", "::1/128"),
        ("fd00::1", "fd00::/8"),
        ("fe80::1%eth0", "fe80::/10"),
        ("::ffff:10.1.2.3", "10.1.0.0/16"),
        ("64:ff9b::10.1.2.3", "10.1.0.0/16"),
        ("2002:a01:203::1", "10.1.0.0/16"),
    ],
)
def test_those_of_a_network_that_is_allowed(address: str, network: str) -> None:
    assert is_permitted(address, [ip_network("192.168.7.0/24"), ip_network(network)])
    assert not is_permitted(address, [ip_network("192.168.7.0/24")])


@pytest.mark.parametrize("address", ["10.2.0.1", "127.0.0.1", "::1", "::ffff:127.0.0.1", "fd00::1"])
def test_no_others_by_it(address: str) -> None:
    assert not is_permitted(address, [ip_network("10.1.0.0/16")])


def test_public_addresses_stay_public() -> None:
    assert is_permitted("1.1.1.1", [ip_network("10.1.0.0/16")])
