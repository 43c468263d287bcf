def tokens(text):
    return text.replace("(", " ( ").replace(")", " ) ").split()
def parse(items):
    t = items.pop(0)
    if t == "(":
        out = []
        while items[0] != ")":
            out.append(parse(items))
        items.pop(0)
        return out
    try:
        return int(t)
    except ValueError:
        return t
def evaluate(x, env):
    while True:
        if isinstance(x, str):
            while x not in env:
                env = env["outer"]
            return env[x]
        if not isinstance(x, list):
            return x
        if x[0] == "if":
            x = x[2] if evaluate(x[1], env) else x[3]
            continue
        if x[0] == "define":
            env[x[1]] = evaluate(x[2], env)
            return None
        if x[0] == "lambda":
            return (x[1], x[2], env)
        f, args = evaluate(x[0], env), [evaluate(a, env) for a in x[1:]]
        if callable(f):
            return f(*args)
        env = dict(zip(f[0], args))
        env["outer"] = f[2]
        x = f[1]
env = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "<": lambda a, b: a < b}
for line in ("(define fact (lambda (n) (if (< n 2) 1 (* n (fact (- n 1))))))", "(fact 12)",
             "(define twice (lambda (f) (lambda (x) (f (f x)))))", "((twice (twice (lambda (n) (+ n 3)))) 1)",
             "(define loop (lambda (n s) (if (< n 1) s (loop (- n 1) (+ s n)))))", "(loop 30 0)"):
    r = evaluate(parse(tokens(line)), env)
    if r is not None:
        print(line, "=", r)
