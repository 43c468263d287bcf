"""`pytest` in this folder tries the agent at real stations, with a client."""

import json
import threading
import urllib.error
import urllib.request

import docking


def ask(url, body=None):
    """Status and body of an answer."""
    try:
        with urllib.request.urlopen(url, body, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_entries_are_written_and_travel(stations):
    alpha, beta = stations("alpha", "beta")
    stations.launch("guestbook.py", via="beta", terms=docking.Terms(label="guestbook"))
    book = alpha.url + "/portcall/1/agents/guestbook"
    assert ask(book + "/entries", b"hello <b>") == (201, "entry 1")
    assert ask(book + "/entries", b" ")[0] == 400
    assert ask(book + "/nothing")[0] == 404
    assert ask(book + "/move", b"nowhere")[0] == 409

    answers = []
    clients = [
        threading.Thread(target=lambda n=n: answers.append(ask(book + "/entries", b"client %d" % n))) for n in range(5)
    ]
    for client in clients:
        client.start()
    assert ask(book + "/move", b"beta") == (200, "now at beta")
    for client in clients:
        client.join()
    assert sorted(answers) == [(201, f"entry {number}") for number in range(2, 7)]

    entries = json.loads(ask(book + "/entries")[1])
    assert sorted(entry["text"] for entry in entries) == [*(f"client {n}" for n in range(5)), "hello <b>"]
    page = ask(beta.url + "/portcall/1/agents/guestbook/")[1]
    assert "now at beta" in page
    assert "hello &lt;b>" in page
