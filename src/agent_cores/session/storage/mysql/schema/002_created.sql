-- Sessions of a namespace, and those with a tag, in the order of creation. No append changes one of
-- these columns. MySQL adds no index only IF NOT EXISTS, and a run that was interrupted may have done
-- some of this.

SET @statement = (
    SELECT IF(COUNT(*) > 0, 'DO 0',
        'CREATE INDEX created ON `{prefix}sessions` (namespace, archived, created_at, session_id)')
    FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = '{prefix}sessions' AND index_name = 'created'
);
PREPARE alteration FROM @statement;
EXECUTE alteration;
DEALLOCATE PREPARE alteration;

SET @statement = (
    SELECT IF(COUNT(*) > 0, 'DO 0',
        'ALTER TABLE `{prefix}owned` ADD COLUMN created_at bigint,
            ADD KEY tagged (namespace, archived, mark, created_at, session_id)')
    FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = '{prefix}owned' AND index_name = 'tagged'
);
PREPARE alteration FROM @statement;
EXECUTE alteration;
DEALLOCATE PREPARE alteration;

UPDATE `{prefix}owned` o STRAIGHT_JOIN `{prefix}sessions` s ON s.session_key = o.session_key
SET o.created_at = s.created_at WHERE o.mark <> '';
