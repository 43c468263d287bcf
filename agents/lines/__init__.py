"""The places in the source of a program at which its functions can be suspended: a table beside the code.

It is made when a program is packed, from the debug information of its compiler (`building`), and kept in a custom
section of the packed module (`table`). It is for people who read a stack; nothing depends on it.
"""

from .table import LINES_SECTION, Lines, lines_of

__all__ = ["LINES_SECTION", "Lines", "lines_of"]
