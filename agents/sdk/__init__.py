"""What authors in other languages need: headers and shims (package data), and the compilers that use them.

Not part of running an agent: nothing else of `agents` imports this package.
"""
