log = []

def worker(stage):
    try:
        try:
            try:
                log.append("in")
                if stage == 1:
                    raise ValueError("one")
                if stage == 2:
                    return "early"
                log.append("ran")
            finally:
                log.append("f1")
                if stage == 3:
                    raise KeyError("three")
        except ValueError as error:
            log.append("caught %s" % error)
            raise TypeError("from " + str(error))
        finally:
            log.append("f2")
    except TypeError as error:
        log.append(str(error))
    finally:
        log.append("f3")
    return "end"

for stage in range(4):
    try:
        log.append(worker(stage))
    except KeyError as error:
        log.append(error.args)
    print(stage, log)
    log.clear()

def loop():
    for i in range(6):
        try:
            if i == 1:
                continue
            if i == 4:
                break
            log.append(i)
        finally:
            log.append("f%d" % i)
    return log

print(loop())

def swallow():
    for i in range(3):
        try:
            raise ValueError
        finally:
            return "swallowed %d" % i

print(swallow())
