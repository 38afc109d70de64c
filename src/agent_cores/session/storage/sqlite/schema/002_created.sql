-- Sessions of a namespace, and those with a tag, in the order of creation. A plain append changes none
-- of these columns, nor does one that moves a session in the lists of its owner.

CREATE INDEX "{prefix}sessions_created"
    ON "{prefix}sessions" (namespace, archived, created_at, session_id);

ALTER TABLE "{prefix}tags" ADD COLUMN created_at INTEGER;

UPDATE "{prefix}tags" SET created_at = (
    SELECT created_at FROM "{prefix}sessions" AS s WHERE s.session_key = "{prefix}tags".session_key
);

CREATE INDEX "{prefix}tags_created"
    ON "{prefix}tags" (namespace, archived, tag, created_at, session_id);

CREATE TRIGGER "{prefix}tags_inserted" AFTER INSERT ON "{prefix}tags" BEGIN
    UPDATE "{prefix}tags" SET created_at = (
        SELECT created_at FROM "{prefix}sessions" WHERE session_key = NEW.session_key
    ) WHERE session_key = NEW.session_key AND tag = NEW.tag;
END;

-- Two triggers, since a statement rewrites every index of the columns that it names.
DROP TRIGGER "{prefix}sessions_moved";

CREATE TRIGGER "{prefix}sessions_moved" AFTER UPDATE OF listed_at ON "{prefix}sessions" BEGIN
    UPDATE "{prefix}tags" SET listed_at = NEW.listed_at WHERE session_key = NEW.session_key;
END;

CREATE TRIGGER "{prefix}sessions_given" AFTER UPDATE OF owner_id, archived ON "{prefix}sessions" BEGIN
    UPDATE "{prefix}tags" SET owner_id = NEW.owner_id, archived = NEW.archived
        WHERE session_key = NEW.session_key;
END;
