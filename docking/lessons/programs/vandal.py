"""Tries what a hostile program would try, and reports what came of each."""

import portcall


def attempt(name, what):
    try:
        found = what()
    except OSError as error:
        portcall.report(name, f"error {error.errno}")
    else:
        portcall.report(name, f"done: {found}")


def read(path):
    with open(path) as file:
        return file.read(20)


def write(path):
    with open(path, "w") as file:
        return file.write("I was here")


def flood():
    block = bytes(65536)
    with open("flood", "wb") as file:
        while True:
            file.write(block)


def open_all():
    kept = []
    try:
        while True:
            kept.append(open("/agent/vandal.py"))
    finally:
        for file in kept:
            file.close()


attempt("read a file of the machine", lambda: read("/etc/passwd"))
attempt("climb out of a lent folder", lambda: read("/charts/../../../../etc/passwd"))
attempt("write into a folder lent to read", lambda: write("/charts/harbour.txt"))
attempt("ask a service that is not for it", lambda: portcall.call("safe.open"))
attempt("go where its owner did not allow", lambda: portcall.go("gamma"))
attempt("multiply", portcall.clone)
attempt("fill the disk", flood)
attempt("open files without end", open_all)
portcall.log("\x1b[2J\x1b]0;owned\x07 nothing to see here")
