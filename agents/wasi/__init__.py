"""Virtual WASI preview 1: an agent's files, descriptors and clocks as plain data that travels with it.

`state.WasiState` is the data, `calls.FUNCTIONS` are the functions over it. Nothing here blocks, and nothing
but `hostdirs`, `hostspots`, `hostfiles` and `hostquota` touches the station's disk.
"""

from .limits import Limits
from .state import WasiState

__all__ = ["Limits", "WasiState"]
