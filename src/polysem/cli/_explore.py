"""`polysem explore`."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Explore:
    """Open the explorer, in a browser on this machine: theory to be moved by hand, and networks that train meanwhile.

    Nothing is fetched from outside. Whoever opens it from beyond this machine (--host) needs the address with the
    token that is printed.

    Example: polysem explore --port 8765
    """

    host: str = "127.0.0.1"
    """Address to listen on; other than a loopback one lets other machines in, with a token."""
    port: int = 8765
    """Port to listen on."""

    def run(self) -> None:
        """Say where the explorer is, and answer until interrupted."""
        try:
            from polysem.app import ExploreConfig, access_of, serve
        except ModuleNotFoundError as error:
            raise ValueError(f'the explorer needs {error.name}: pip install "polysem[app]"') from error

        config = ExploreConfig(host=self.host, port=self.port)
        access = access_of(config)
        host = f"[{self.host}]" if ":" in self.host else self.host
        token = f"?token={access.token}" if access.token else ""
        if access.token:
            print(f"Listening on {host}, open to other machines that show the token.", file=sys.stderr)
        print(f"Explorer: http://{host}:{self.port}/{token}", flush=True)
        serve(config, access)
