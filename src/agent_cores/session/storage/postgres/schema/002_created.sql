-- Sessions of a namespace, and those with a tag, in the order of creation. No append changes one of
-- these columns. Tags have a table of their own, since an append that moves a session in the lists of
-- its owner writes every index of that table.

-- It does not begin with the namespace: on an empty table the planner could then take it, and not the
-- key, to look up a name, and a plan is kept while the table grows.
CREATE INDEX "{prefix}sessions_created" ON {schema}."{prefix}sessions"
    (archived, namespace, created_at, session_id);

CREATE TABLE {schema}."{prefix}tagged" (
    session_key bigint NOT NULL,
    mark text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    archived smallint NOT NULL,
    created_at bigint NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (session_key, mark)
);

CREATE INDEX "{prefix}tagged_created" ON {schema}."{prefix}tagged"
    (namespace, archived, mark, created_at, session_id);

-- Triggers, so that programs of the earlier schema keep the table too.
CREATE FUNCTION {schema}."{prefix}tag_added"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}."{prefix}tagged"
    SELECT NEW.session_key, NEW.mark, NEW.namespace, NEW.archived, s.created_at, NEW.session_id
    FROM {schema}."{prefix}sessions" s WHERE s.session_key = NEW.session_key
    ON CONFLICT (session_key, mark) DO UPDATE SET archived = excluded.archived;
    RETURN NULL;
END $$;

CREATE FUNCTION {schema}."{prefix}tag_removed"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM {schema}."{prefix}tagged"
    WHERE session_key = OLD.session_key AND mark = OLD.mark;
    RETURN NULL;
END $$;

CREATE TRIGGER tag_added AFTER INSERT ON {schema}."{prefix}owned"
    FOR EACH ROW WHEN (NEW.mark <> '') EXECUTE FUNCTION {schema}."{prefix}tag_added"();

CREATE TRIGGER tag_removed AFTER DELETE ON {schema}."{prefix}owned"
    FOR EACH ROW WHEN (OLD.mark <> '') EXECUTE FUNCTION {schema}."{prefix}tag_removed"();

INSERT INTO {schema}."{prefix}tagged"
SELECT o.session_key, o.mark, o.namespace, o.archived, s.created_at, o.session_id
FROM {schema}."{prefix}owned" o JOIN {schema}."{prefix}sessions" s USING (session_key)
WHERE o.mark <> ''
ON CONFLICT (session_key, mark) DO NOTHING;
