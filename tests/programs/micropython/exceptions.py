class Refused(Exception):
    pass

class Late(Refused):
    def __init__(self, hours):
        super().__init__("late by %d" % hours)
        self.hours = hours

def attempt(kind):
    try:
        if kind == 0:
            return 1 // kind
        if kind == 1:
            return [1, 2][5]
        if kind == 2:
            return {}["missing"]
        if kind == 3:
            raise Late(3)
        if kind == 4:
            return int("x" * kind)
        return "fine"
    except ZeroDivisionError:
        return "division"
    except (IndexError, KeyError) as error:
        return type(error).__name__
    except Refused as error:
        return "%s %d" % (error, error.hours)
    finally:
        print("attempt", kind, end="; ")

for kind in range(6):
    try:
        print(attempt(kind))
    except ValueError:
        print("value error")
