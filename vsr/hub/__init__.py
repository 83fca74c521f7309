"""Downloads of weights that arrive whole or not at all.

A download grows under ``.part`` beside its place in the cache, goes on where it was cut off, and
takes its final name only after it was checked. Where a reference leaves the repository or the file
open, the Hub is asked first. Importing this package needs neither torch nor a connection.
"""

from vsr.hub.downloading import OnBytes
from vsr.hub.fetching import fetch
from vsr.hub.link import Limits

__all__ = ["Limits", "OnBytes", "fetch"]
