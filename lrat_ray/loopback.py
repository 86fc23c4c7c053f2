"""What counts as this machine: requests to it need no proxy, and a service bound to it answers to no other name."""

from __future__ import annotations

from ipaddress import ip_address

NO_PROXY: dict[str, None] = {f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")}
"""`mounts` of an httpx client that reaches this machine directly: a proxy that the environment names is for other machines."""


def is_loopback(host: str) -> bool:
    """Whether a host name or address, without port or brackets, is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
