-- The store of a station. Each block brings a store from the version before it to its own (`PRAGMA user_version`).
-- A block that was released is never changed: a new version is a new block at the end.

-- version 1

-- What the station knows of itself: its epoch, and whatever else is small and must last.
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- One row per handoff and side. Times are milliseconds since 1970.
CREATE TABLE ledger (
    hid BLOB NOT NULL CHECK (length(hid) = 32),
    side TEXT NOT NULL,
    state TEXT NOT NULL,
    agent BLOB NOT NULL CHECK (length(agent) = 32),
    hop INTEGER NOT NULL,
    peer BLOB NOT NULL CHECK (length(peer) = 32),
    epoch BLOB NOT NULL,
    visit BLOB NOT NULL,
    expires INTEGER NOT NULL,
    receipt BLOB NOT NULL,
    commitment BLOB NOT NULL,
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    changed INTEGER NOT NULL,
    PRIMARY KEY (hid, side),
    CHECK (side = 'source' AND state IN ('frozen', 'committed', 'gone', 'aborted')
        OR side = 'destination' AND state IN ('held', 'running', 'discarded'))
) WITHOUT ROWID;
CREATE INDEX ledger_by_agent ON ledger (agent, hop);
CREATE INDEX ledger_open ON ledger (changed) WHERE state IN ('frozen', 'committed', 'held');

-- Bodies by digest, each once; an empty body of a size above 0 lies in a file beside the database. `uses` counts rows of
-- cargo; `idle`: since when nothing uses it, NULL while something does.
CREATE TABLE parts (
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    size INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    idle INTEGER,
    body BLOB NOT NULL
);
CREATE INDEX parts_idle ON parts (idle) WHERE idle IS NOT NULL;

-- The state of each agent that is here, by agent and index of its visit. `note` is the station's own word on it.
CREATE TABLE capsules (
    agent BLOB NOT NULL CHECK (length(agent) = 32),
    hop INTEGER NOT NULL,
    standing TEXT NOT NULL CHECK (standing IN ('held', 'live', 'departed')),
    changed INTEGER NOT NULL,
    note BLOB NOT NULL,
    PRIMARY KEY (agent, hop)
) WITHOUT ROWID;

-- What each capsule is made of.
CREATE TABLE cargo (
    agent BLOB NOT NULL,
    hop INTEGER NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    digest BLOB NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (agent, hop, position)
) WITHOUT ROWID;

-- Letters to other stations that are to be delivered at least once.
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    recipient BLOB NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    due INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    attempts INTEGER NOT NULL
);
CREATE INDEX outbox_due ON outbox (due);

-- version 2

-- Links of trails and of chains of results that were verified here, each by the head that it makes.
CREATE TABLE links (
    head BLOB PRIMARY KEY CHECK (length(head) = 32),
    previous BLOB NOT NULL,
    body BLOB NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX links_by_expiry ON links (expires);

-- Where a verified trail stands, by head: every link before it is in the table above.
CREATE TABLE points (
    head BLOB PRIMARY KEY CHECK (length(head) = 32),
    agent BLOB NOT NULL,
    links INTEGER NOT NULL,
    point BLOB NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX points_by_agent ON points (agent, links);

-- What a home knows of the agents that it launched: the station's own record, and the capsule of a journey that is over.
CREATE TABLE journeys (
    agent BLOB PRIMARY KEY CHECK (length(agent) = 32),
    expires INTEGER NOT NULL,
    record BLOB NOT NULL,
    capsule BLOB NOT NULL
) WITHOUT ROWID;

-- version 3

-- A count that changes with each visit does not write a whole image again: bodies have rows of their own. `uses` counts
-- rows of cargo; `idle`: since when nothing uses it, NULL while something does; `number` of the body, NULL for one that
-- lies in a file beside the database.
CREATE TABLE bodies (
    number INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);
CREATE TABLE counted (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    size INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    idle INTEGER,
    number INTEGER
) WITHOUT ROWID;
INSERT INTO bodies SELECT rowid, body FROM parts WHERE size = 0 OR length(body) > 0;
INSERT INTO counted SELECT digest, size, uses, idle, CASE WHEN size = 0 OR length(body) > 0 THEN rowid END FROM parts;
DROP TABLE parts;
ALTER TABLE counted RENAME TO parts;
