-- Sessions, their messages and context, and the lists that they stand in.
-- {schema} and {prefix} are replaced before this runs. Times are milliseconds since 1970 UTC; bytea
-- holds what callers gave, encoded, NUL included; text holds names, equal only byte for byte.

CREATE TABLE IF NOT EXISTS {schema}."{prefix}schema" (
    version integer NOT NULL,
    oldest_program integer NOT NULL
);

CREATE TABLE {schema}."{prefix}sessions" (
    session_key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    format smallint NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    owner_id text COLLATE "C" NOT NULL,
    title bytea NOT NULL,
    tags bytea NOT NULL,
    attributes bytea NOT NULL,
    grants bytea NOT NULL,
    archived smallint NOT NULL,
    public smallint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    last_active_at bigint NOT NULL,
    expires_at bigint,
    ttl_seconds double precision,
    max_lifetime_seconds double precision,
    renew_on text COLLATE "C" NOT NULL,
    last_seq bigint NOT NULL,
    message_count bigint NOT NULL,
    revision bigint NOT NULL,
    access_revision bigint,
    hold text COLLATE "C",
    context_bytes bigint,
    request_digest text COLLATE "C",
    listed_at bigint,
    due_at bigint,
    turn_token text COLLATE "C",
    turn_expires_at bigint,
    UNIQUE (namespace, session_id)
) WITH (fillfactor = 80); -- room for the new version of a row: an append then touches no index

CREATE INDEX "{prefix}sessions_due" ON {schema}."{prefix}sessions" (due_at, namespace)
    WHERE due_at IS NOT NULL;

CREATE TABLE {schema}."{prefix}messages" (
    session_key bigint NOT NULL,
    seq bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (session_key, seq),
    UNIQUE (session_key, id)
);

CREATE TABLE {schema}."{prefix}context" (
    session_key bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (session_key, key)
);

-- A row for each session (mark '') and one for each of its tags (mark '=' and the tag), beside the
-- header, so that the header has no index on a time that appends move.
CREATE TABLE {schema}."{prefix}owned" (
    session_key bigint NOT NULL,
    mark text COLLATE "C" NOT NULL,
    owner_id text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    archived smallint NOT NULL,
    listed_at bigint NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (session_key, mark)
);

CREATE INDEX "{prefix}owned_listed" ON {schema}."{prefix}owned"
    (owner_id, namespace, archived, mark, listed_at, session_id);

CREATE TABLE {schema}."{prefix}shared" (
    session_key bigint NOT NULL,
    subject text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    granted_at bigint NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (session_key, subject)
);

CREATE INDEX "{prefix}shared_listed" ON {schema}."{prefix}shared"
    (subject, namespace, granted_at, session_id);

-- Sessions that are gone, whose messages and context are still to be removed.
CREATE TABLE {schema}."{prefix}deleted" (
    session_key bigint PRIMARY KEY
);

-- How many sessions a namespace holds: the sum of its shards, so that writers seldom meet in one row.
CREATE TABLE {schema}."{prefix}counters" (
    namespace text COLLATE "C" NOT NULL,
    shard smallint NOT NULL,
    sessions bigint NOT NULL,
    PRIMARY KEY (namespace, shard)
) WITH (fillfactor = 50);
