"""A guestbook that follows its readers: an agent with clients.

GET  /          the entries, as a page
GET  /entries   the entries, as JSON
POST /entries   a new entry: the body
POST /move      to the station in the body, with all entries; the answer comes from there
"""

import portcall

LONGEST = 500
PAGE = """<!doctype html>
<title>Guestbook</title>
<h1>Guestbook, now at {here}</h1>
<ol>{entries}</ol>
<form method="post" action="entries" enctype="text/plain"><input name="entry"><button>Write</button></form>
"""

entries = []


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")


def page():
    listed = "".join("<li>" + escaped(entry["text"]) + " <small>" + entry["at"] + "</small>" for entry in entries)
    return 200, {"content-type": "text/html; charset=utf-8"}, PAGE.format(here=portcall.here(), entries=listed)


def write(request):
    text = request.text().strip()
    if not text or len(text) > LONGEST:
        return 400, "an entry has 1 to 500 characters"
    entries.append({"text": text, "at": portcall.here()})
    return 201, {"location": "entries"}, "entry " + str(len(entries))


def move(request):
    try:
        portcall.go(request.text().strip())
    except OSError as error:
        return 409, "it stays at " + portcall.here() + ": error " + str(error.errno)
    return "now at " + portcall.here()


def handler(request):
    asked = request.method + " " + request.path
    if asked == "GET /":
        return page()
    if asked == "GET /entries":
        return entries
    if asked == "POST /entries":
        return write(request)
    if asked == "POST /move":
        return move(request)
    return 404, "nothing is here"


portcall.serve(handler)
