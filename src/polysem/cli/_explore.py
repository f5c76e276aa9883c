"""`polysem explore`."""

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Explore:
    """Open the explorer, in a browser on this machine: theory to be moved by hand, networks that train, your weights.

    Nothing is fetched from outside. Whoever opens it from beyond this machine (--host) needs the address with the
    token that is printed.

    Example: polysem explore --models checkpoints
    """

    host: str = "127.0.0.1"
    """Address to listen on; other than a loopback one lets other machines in, with a token."""
    port: int = 8765
    """Port to listen on."""
    models: Path | None = None
    """Folder whose weight files, labels and sweeps can be opened; nothing outside of it can."""

    def run(self) -> None:
        """Listen, say where, and answer until interrupted."""
        try:
            from polysem.app import ExploreConfig, access_of, listen, serve
        except ModuleNotFoundError as error:
            raise ValueError(f'the explorer needs {error.name}: pip install "polysem[app]"') from error

        config = ExploreConfig(host=self.host, port=self.port, models=self.models)
        access = access_of(config)
        listening = listen(config)
        host = f"[{self.host}]" if ":" in self.host else self.host
        token = f"?token={access.token}" if access.token else ""
        if access.token:
            print(f"Listening on {host}, open to other machines that show the token.", file=sys.stderr)
        print(f"Explorer: http://{host}:{self.port}/{token}", flush=True)
        serve(config, access, listening)
