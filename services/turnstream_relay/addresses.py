"""Which addresses may be posted to: the public ones, unless a network is allowed by name (docs/relay.md)."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64: Final = IPv6Network("64:ff9b::/96")
"""Its last 32 bits are the IPv4 address that a gateway passes on to."""


def is_permitted(text: str, allowed: Iterable[Network]) -> bool:
    """Tell whether an address, as the resolver writes it, is public or in one of the allowed networks.

    An IPv6 address that leads to an IPv4 address is judged by both.
    """
    addresses = _behind(ip_address(text))
    return any(address in network for address in addresses for network in allowed) or all(map(_is_public, addresses))


def _behind(address: Address) -> list[Address]:
    """Return an address and those to which packets for it may be passed on."""
    if isinstance(address, IPv4Address):
        return [address]
    # Two other ways to write one, which are no public addresses themselves.
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFF_FFFF)]
    found: list[Address] = [address]
    if address.sixtofour:
        found.append(address.sixtofour)
    if address.teredo:
        found.extend(address.teredo)
    return found


def _is_public(address: Address) -> bool:
    # What Python calls global has some that nobody can be reached at from everywhere.
    odd = address.is_multicast or address.is_reserved or address.is_unspecified
    is_site_local = isinstance(address, IPv6Address) and address.is_site_local
    return address.is_global and not odd and not is_site_local
