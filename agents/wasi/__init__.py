"""Virtual WASI preview 1: an agent's files, descriptors and clocks as plain data that travels with it.

`state.WasiState` is the data, `calls.FUNCTIONS` are the functions over it. Nothing here blocks, and only
`hostdirs`, `host_paths`, `hostfiles` and `hostquota` touch the station's disk.
"""

from .limits import WasiLimits
from .state import WasiState

__all__ = ["WasiLimits", "WasiState"]
