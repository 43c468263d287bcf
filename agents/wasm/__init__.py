"""The WebAssembly 3.0 binary format as engines ship it: decode, encode, validate, print.

Folders of the specification, one module each: `syntax` (chapter 2, Structure), `opcodes` (the table of 5.4),
`decode` and `encode` (chapter 5, Binary Format), `validate` (chapter 3, Validation), `text` (a printer for
chapter 6), `names` (the name section, appendix A.7).

It runs nothing and rewrites nothing. Garbage-collected types, threads and legacy exceptions are recognised
and refused by name.
"""
