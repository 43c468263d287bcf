import json
import re

text = '{"name": "beta", "port": 7711, "peers": ["alpha", "gamma"], "load": 0.25, "up": true, "note": null}'
data = json.loads(text)
print(data["name"], data["port"] + 1, data["peers"][1], data["load"] * 2, data["up"], data["note"])
data["nested"] = {"list": [1, [2, {"x": "y"}]]}
again = json.loads(json.dumps(data))
print(again == data, sorted(again), json.dumps([1, "q\"q", None, False]))
m = re.match("([a-z]+)-([0-9]+)", "station-42 rest")
print(m.group(0), m.group(1), m.group(2))
print(re.sub("[aeiou]", "*", "portcall agents"), re.compile("[, ]+").split("a, b c,d"), re.search("x+", "aaxxxb").group(0))
try:
    json.loads("{broken")
except ValueError:
    print("refused")
