"""Where `make clients-js` puts the JavaScript clients."""

from __future__ import annotations

import os
from pathlib import Path

CLIENTS = Path(os.environ.get("EDGE_ASR_CLIENTS_JS", Path(__file__).parents[3] / ".clients" / "javascript"))
