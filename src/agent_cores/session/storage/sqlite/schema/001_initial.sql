-- Sessions, their messages and context, and the lists that they stand in.
-- {prefix} is replaced before this runs. Times are milliseconds since 1970 UTC; blobs hold what callers
-- gave, encoded, NUL included; text holds names, equal only byte for byte.

-- Of a header, what appends touch or check comes first: SQLite reads a row from its beginning.
CREATE TABLE "{prefix}sessions" (
    session_key INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused, so that old rows meet no new session
    namespace TEXT NOT NULL,
    session_id TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    access_revision INTEGER,
    last_seq INTEGER NOT NULL,
    message_count INTEGER NOT NULL,
    last_active_at INTEGER NOT NULL,
    expires_at INTEGER,
    listed_at INTEGER NOT NULL,
    archived INTEGER NOT NULL,
    hold TEXT,
    turn_token TEXT,
    turn_expires_at INTEGER,
    revision INTEGER NOT NULL,
    due_at INTEGER,
    owner_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    ttl_seconds REAL,
    max_lifetime_seconds REAL,
    renew_on TEXT NOT NULL,
    public INTEGER NOT NULL,
    context_bytes INTEGER,
    request_digest TEXT,
    format INTEGER NOT NULL,
    title BLOB NOT NULL,
    tags BLOB NOT NULL,
    grants BLOB NOT NULL,
    attributes BLOB NOT NULL,
    UNIQUE (namespace, session_id)
) STRICT;

CREATE INDEX "{prefix}sessions_owned"
    ON "{prefix}sessions" (namespace, owner_id, archived, listed_at, session_id);

CREATE INDEX "{prefix}sessions_listed" ON "{prefix}sessions" (listed_at, session_id);

CREATE INDEX "{prefix}sessions_due" ON "{prefix}sessions" (due_at, namespace)
    WHERE due_at IS NOT NULL;

-- With rowid: bodies then lie in the order of arrival, a batch of appends to many sessions fills few
-- pages (measured: 2 to 3 times the appends of a table clustered by session, windows as fast).
CREATE TABLE "{prefix}messages" (
    session_key INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (session_key, seq),
    UNIQUE (session_key, id)
) STRICT;

CREATE TABLE "{prefix}context" (
    session_key INTEGER NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (session_key, key)
) STRICT;

-- Sessions by tag: a row for each tag, with the place of its session in the owner's listing.
CREATE TABLE "{prefix}tags" (
    session_key INTEGER NOT NULL,
    tag TEXT NOT NULL,
    namespace TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    archived INTEGER NOT NULL,
    listed_at INTEGER NOT NULL,
    session_id TEXT NOT NULL,
    PRIMARY KEY (session_key, tag)
) STRICT, WITHOUT ROWID;

CREATE INDEX "{prefix}tags_listed"
    ON "{prefix}tags" (namespace, owner_id, archived, tag, listed_at, session_id);

-- Sessions by whom they are shared with: a row for each grant.
CREATE TABLE "{prefix}shares" (
    session_key INTEGER NOT NULL,
    subject TEXT NOT NULL,
    namespace TEXT NOT NULL,
    granted_at INTEGER NOT NULL,
    session_id TEXT NOT NULL,
    PRIMARY KEY (session_key, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX "{prefix}shares_listed"
    ON "{prefix}shares" (namespace, subject, granted_at, session_id);

-- Sessions that are gone, whose messages and context are still to be removed.
CREATE TABLE "{prefix}deleted" (
    session_key INTEGER PRIMARY KEY
) STRICT;

-- How many sessions a namespace holds.
CREATE TABLE "{prefix}counters" (
    namespace TEXT PRIMARY KEY,
    sessions INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER "{prefix}sessions_inserted" AFTER INSERT ON "{prefix}sessions" BEGIN
    INSERT INTO "{prefix}counters" (namespace, sessions) VALUES (NEW.namespace, 1)
        ON CONFLICT (namespace) DO UPDATE SET sessions = sessions + 1;
END;

CREATE TRIGGER "{prefix}sessions_deleted" AFTER DELETE ON "{prefix}sessions" BEGIN
    UPDATE "{prefix}counters" SET sessions = sessions - 1 WHERE namespace = OLD.namespace;
    DELETE FROM "{prefix}counters" WHERE namespace = OLD.namespace AND sessions = 0;
    DELETE FROM "{prefix}tags" WHERE session_key = OLD.session_key;
    DELETE FROM "{prefix}shares" WHERE session_key = OLD.session_key;
    INSERT INTO "{prefix}deleted" (session_key) VALUES (OLD.session_key);
END;

-- Fires only for statements that name one of these columns; the plain append does not.
CREATE TRIGGER "{prefix}sessions_moved"
    AFTER UPDATE OF owner_id, archived, listed_at ON "{prefix}sessions" BEGIN
    UPDATE "{prefix}tags"
        SET owner_id = NEW.owner_id, archived = NEW.archived, listed_at = NEW.listed_at
        WHERE session_key = NEW.session_key;
END;
