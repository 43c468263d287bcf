# Lists, tuples, dicts and sets within each other, made, changed and dropped: more than 10 MB in all.
total = 0
kept = {}
for turn in range(3200):
    rows = [[(turn, k), str(k), {"k": k, "t": turn}] for k in range(12)]
    names = {row[1]: row for row in rows}
    seen = set()
    for row in rows:
        seen.add(row[0])
        row[2]["all"] = list(seen)[:2] and len(seen)
        row += [row[0][0] + row[0][1]]
    merged = []
    for name in sorted(names):
        merged.extend(names[name][2:])
    pairs = sorted(zip([r[3] for r in rows], [r[1] for r in rows]))
    assert [r[2]["k"] for r in rows] == list(range(12)), (turn, rows)
    assert len(merged) == 24 and merged[0]["t"] == turn, (turn, merged)
    assert pairs[0] == (turn, "0"), (turn, pairs)
    if turn % 160 == 0:
        kept[turn] = (rows[3], pairs[-1], merged[-1])
    total += sum(r[3] for r in rows) + len(seen)
print(total, len(kept))
for turn in sorted(kept):
    row, pair, last = kept[turn]
    print(turn, row[0], row[1], sorted(row[2].items()), row[3], pair, last)
