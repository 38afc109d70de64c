-- Sessions of a namespace in the order of creation. No append changes one of these columns.
CREATE INDEX "{prefix}sessions_created" ON {schema}."{prefix}sessions"
    (namespace, archived, created_at, session_id);
