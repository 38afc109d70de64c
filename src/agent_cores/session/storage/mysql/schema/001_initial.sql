-- Sessions, their messages and context, and the indexes that list them.
-- {prefix} is replaced before this runs. Times are milliseconds since 1970 UTC. Names are varbinary:
-- equal only byte for byte, trailing spaces included. What callers gave is longblob, NUL included.
-- MySQL commits after each CREATE TABLE, so a run that was interrupted finds some of them. A table of
-- another program under one of these names lacks the columns of the SELECT that follows.

CREATE TABLE IF NOT EXISTS `{prefix}schema` (
    version integer NOT NULL,
    oldest_program integer NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS `{prefix}sessions` (
    session_key bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    format smallint NOT NULL,
    namespace varbinary(63) NOT NULL,
    session_id varbinary(255) NOT NULL,
    incarnation bigint NOT NULL,
    owner_id varbinary(255) NOT NULL,
    title longblob NOT NULL,
    tags longblob NOT NULL,
    attributes longblob NOT NULL,
    grants longblob NOT NULL,
    archived smallint NOT NULL,
    public smallint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    last_active_at bigint NOT NULL,
    expires_at bigint,
    ttl_seconds double,
    max_lifetime_seconds double,
    renew_on varbinary(63) NOT NULL,
    last_seq bigint NOT NULL,
    message_count bigint NOT NULL,
    revision bigint NOT NULL,
    access_revision bigint,
    hold varbinary(63),
    context_bytes bigint,
    request_digest varbinary(255),
    listed_at bigint,
    due_at bigint,
    turn_token varbinary(255),
    turn_expires_at bigint,
    UNIQUE KEY named (namespace, session_id),
    KEY due (due_at, namespace)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
SELECT session_key, incarnation, access_revision, due_at FROM `{prefix}sessions` LIMIT 0;

CREATE TABLE IF NOT EXISTS `{prefix}messages` (
    session_key bigint NOT NULL,
    seq bigint NOT NULL,
    id varbinary(255) NOT NULL,
    created_at bigint NOT NULL,
    body longblob NOT NULL,
    PRIMARY KEY (session_key, seq),
    UNIQUE KEY known (session_key, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
SELECT session_key, seq, id, body FROM `{prefix}messages` LIMIT 0;

-- "key" is a reserved word in both; MySQL and MariaDB quote it with backticks.
CREATE TABLE IF NOT EXISTS `{prefix}context` (
    session_key bigint NOT NULL,
    `key` varbinary(255) NOT NULL,
    value longblob NOT NULL,
    PRIMARY KEY (session_key, `key`)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
SELECT session_key, `key`, value FROM `{prefix}context` LIMIT 0;

-- A row for each session (mark '') and one for each of its tags (mark '=' and the tag), apart from
-- the header, so that an append changes no index of the header's table but that of due_at.
CREATE TABLE IF NOT EXISTS `{prefix}owned` (
    session_key bigint NOT NULL,
    mark varbinary(256) NOT NULL,
    owner_id varbinary(255) NOT NULL,
    namespace varbinary(63) NOT NULL,
    archived smallint NOT NULL,
    listed_at bigint NOT NULL,
    session_id varbinary(255) NOT NULL,
    PRIMARY KEY (session_key, mark),
    KEY listed (owner_id, namespace, archived, mark, listed_at, session_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
SELECT session_key, mark, listed_at FROM `{prefix}owned` LIMIT 0;

CREATE TABLE IF NOT EXISTS `{prefix}shared` (
    session_key bigint NOT NULL,
    subject varbinary(255) NOT NULL,
    namespace varbinary(63) NOT NULL,
    granted_at bigint NOT NULL,
    session_id varbinary(255) NOT NULL,
    PRIMARY KEY (session_key, subject),
    KEY listed (subject, namespace, granted_at, session_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
SELECT session_key, subject, granted_at FROM `{prefix}shared` LIMIT 0;

-- Sessions that are gone, whose messages and context are still to be removed.
CREATE TABLE IF NOT EXISTS `{prefix}deleted` (
    session_key bigint NOT NULL PRIMARY KEY
) ENGINE = InnoDB;
SELECT session_key FROM `{prefix}deleted` LIMIT 0;

-- How many sessions a namespace holds: the sum of its shards, so that writers rarely share a row.
CREATE TABLE IF NOT EXISTS `{prefix}counters` (
    namespace varbinary(63) NOT NULL,
    shard smallint NOT NULL,
    sessions bigint NOT NULL,
    PRIMARY KEY (namespace, shard)
) ENGINE = InnoDB;
SELECT namespace, shard, sessions FROM `{prefix}counters` LIMIT 0;
