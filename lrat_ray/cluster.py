"""Reach Ray: join a cluster, or start one on this machine when it is first needed."""

from __future__ import annotations

import logging
import os
import socket

from lrat_ray.config import ConfigError, RaySection


def connect(config: RaySection) -> None:
    """Join the cluster at `ray.address` (or the one that this job runs on), otherwise start Ray here. Later calls do nothing.

    A Ray started here gets at least 6 logical CPUs whatever the cores: services and light actors hold fractions of one, and
    with 2 of them pipelines that wait for an actor never start.
    """
    import ray

    if ray.is_initialized():
        return
    # HAProxy in front of Serve answers several times the requests of Serve's own proxy; it is chosen before Ray starts.
    os.environ.setdefault("RAY_SERVE_ENABLE_HA_PROXY", "1")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    address = config.address or os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, logging_level=logging.WARNING, ignore_reinit_error=True)
    else:
        num_cpus = config.num_cpus or max(6, os.cpu_count() or 1)
        ray.init(
            address="local", num_cpus=num_cpus, include_dashboard=False, logging_level=logging.WARNING, log_to_driver=False
        )


_serve_url: str | None = None


def start_serve(host: str, port: int) -> str:
    """Start Ray Serve's HTTP endpoint, once per driver, and return its base URL; port 0 picks a free one.

    `connect` comes first. Raises ConfigError when another program listens on the port.
    """
    from ray import serve

    global _serve_url
    if _serve_url is None:
        port = _free_port(host, port)
        serve.start(http_options={"host": host, "port": port})
        _serve_url = f"http://{host}:{port}"
    return _serve_url


def shutdown() -> None:
    """Stop Serve and leave Ray (stopping it, if it was started here)."""
    import ray
    from ray import serve

    global _serve_url
    if ray.is_initialized():
        if _serve_url is not None:
            serve.shutdown()
        ray.shutdown()
    _serve_url = None


def _free_port(host: str, port: int) -> int:
    """`port` itself, or a free one for 0. Raises ConfigError when the port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"serve.port: {host}:{port} is in use ({error.strerror}). "
                "Stop what listens there, or pass serve.port=0 for a free port"
            ) from error
        return int(probe.getsockname()[1])
