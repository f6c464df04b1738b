"""A web server for one application, without gradio. Imports uvicorn."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

from redoseg.errors import ConfigError
from redoseg.files import printable


@contextlib.contextmanager
def listening(app: Any, host: str, port: int) -> Iterator[str]:
    """Serve an ASGI application within the block, in a thread; yields its address.

    At the end nothing is waited for: what is under way is cut off. Raises ConfigError if it does not start.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=host.strip("[]"),
            port=port,
            lifespan="off",
            ws="none",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            log_level="warning",
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise ConfigError(f"Port {port} of {printable(host)} cannot be used. Choose another --port.")
        time.sleep(0.02)
    try:
        yield f"http://{f'[{host}]' if ':' in host and '[' not in host else host}:{port}/"
    finally:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it shows how what waits is cut off
        server.should_exit = server.force_exit = True
        thread.join(timeout=2)
