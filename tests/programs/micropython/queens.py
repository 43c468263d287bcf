def solve(n):
    found = []
    def place(row, columns, left, right, board):
        if row == n:
            found.append(board)
            return
        for c in range(n):
            if c not in columns and row + c not in left and row - c not in right:
                place(row + 1, columns | {c}, left | {row + c}, right | {row - c}, board + (c,))
    place(0, frozenset(), frozenset(), frozenset(), ())
    return found
print([len(solve(n)) for n in range(1, 6)], solve(6)[0])
