"""Which addresses may be posted to: the public ones, unless a network is allowed by name (docs/relay.md)."""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_TRANSLATING: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
"""Networks whose last 32 bits are an IPv4 address that a gateway passes on to; what matters is that one."""

_CLOUD_METADATA: Final = (IPv4Address("168.63.129.16"),)
"""Public addresses at which providers answer their own machines: Azure's."""


def is_permitted(text: str, allowed: Collection[Network]) -> bool:
    """Return whether an address, as the resolver writes it, is public or in one of the allowed networks.

    An IPv6 address that embeds an IPv4 address is permitted only if that is permitted as well.
    """
    return all(
        _is_public(address) or any(address in network for network in allowed)
        for address in _embedded_addresses(ip_address(text))
    )


def _embedded_addresses(address: Address) -> list[Address]:
    """Return an address and those to which packets for it may be passed on."""
    if isinstance(address, IPv4Address):
        return [address]
    if behind := address.ipv4_mapped or address.sixtofour:
        # Another way to write it, and a way to it: what matters is that one. Pythons differ about these themselves.
        return [behind]
    if any(address in network for network in _TRANSLATING):
        return [IPv4Address(int(address) & 0xFFFF_FFFF)]
    return [address, *(address.teredo or ())]


def _is_public(address: Address) -> bool:
    # Some addresses that Python calls global are not reachable from everywhere.
    odd = address.is_multicast or address.is_reserved or address.is_unspecified or address in _CLOUD_METADATA
    of_a_site = isinstance(address, IPv6Address) and address.is_site_local
    return address.is_global and not (odd or of_a_site)
