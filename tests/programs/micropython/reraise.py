def inner(n):
    if n == 0:
        raise ValueError("bottom")
    try:
        inner(n - 1)
    except ValueError as error:
        seen.append(error.args[0] + str(n))
        raise
    finally:
        trail.append(n)

class Marked(ValueError):
    pass

def marked(n):
    if n == 0:
        raise Marked("deep")
    try:
        marked(n - 1)
    except Marked as error:
        if n % 3 == 0:
            raise Marked("%s<%d" % (error.args[0], n))
        raise

trail, seen = [], []
try:
    inner(6)
except ValueError as error:
    print(error.args, trail, seen)
except AttributeError:
    print("no attributes")
try:
    marked(9)
except ValueError as error:
    print(type(error).__name__, error)
