def deep(n):
    try:
        if n == 0:
            raise ValueError("nobody catches this")
        deep(n - 1)
    finally:
        print("leaving", n)

deep(4)
