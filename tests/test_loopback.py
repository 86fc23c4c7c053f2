from __future__ import annotations

import pytest

from lrat_ray.loopback import is_loopback


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "::1"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "10.0.0.1", "example.org", "127.0.0.1.example.org", "localhost.example.org"])
def test_other_machines(host: str) -> None:
    assert not is_loopback(host)
