-- Sessions of a namespace in the order of creation. No append changes one of these columns.
-- MySQL has no CREATE INDEX IF NOT EXISTS, and a run that was interrupted may have made the index.
SET @statement = (
    SELECT IF(COUNT(*) > 0, 'DO 0',
        'CREATE INDEX created ON `{prefix}sessions` (namespace, archived, created_at, session_id)')
    FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = '{prefix}sessions' AND index_name = 'created'
);
PREPARE create_index FROM @statement;
EXECUTE create_index;
DEALLOCATE PREPARE create_index;
