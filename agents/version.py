"""The version of the distribution `portcall`, in one place.

The build reads it from here, `portcall --version` prints it, and the documentation quotes it.
It is not the version of any format or protocol: each of those has its own number.
"""

VERSION = "0.1.0"
