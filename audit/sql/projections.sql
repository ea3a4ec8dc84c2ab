-- highest_position --
-- The highest position that anybody can see now.
SELECT coalesce(max(id), 0) FROM bamboo_audit_pipelineeventrecord

-- appending --
-- The transactions of others that hold the appenders' announcement (see 0002_writers.sql), each
-- with its process and since when it goes on.
SELECT l.virtualtransaction, l.pid, a.xact_start
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid = 7305
  AND l.objid = 'bamboo_audit_pipelineeventrecord'::regclass::oid
  AND l.pid IS DISTINCT FROM pg_backend_pid()

-- end_frozen --
-- End the appends whose batch is under way for too long and waits for its next piece: only a COPY
-- is active while its server process waits for its client, and only a shipper moves writers on in
-- the same message. What a host copies itself is not ours to end, nor what another role does.
WITH frozen AS MATERIALIZED (
    SELECT l.pid, a.state_change
    FROM pg_locks AS l
    JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.classid = 7305
      AND l.objid = 'bamboo_audit_pipelineeventrecord'::regclass::oid
      AND l.pid <> pg_backend_pid()
      AND a.state = 'active' AND a.wait_event = 'ClientRead'
      AND a.state_change < clock_timestamp() - %(patience)s::interval
      AND a.query LIKE '%%bamboo\_audit\_advance(%%'
      AND a.usename = current_user
)
SELECT pid, state_change FROM frozen WHERE pg_terminate_backend(pid)

-- lock_checkpoint --
-- How far a projection is, for whoever moves it on; others wait here until that is committed. The
-- advisory lock keeps nobody out: it shows who that is. 7307: no other lock of ours has it.
WITH mine AS MATERIALIZED (
    SELECT version, position FROM bamboo_audit_projectioncheckpoint
    WHERE name = %(name)s FOR UPDATE
)
SELECT version, position, pg_advisory_xact_lock_shared(
    (7307::bigint << 32) | (hashtext(%(name)s)::bigint & 4294967295)
)
FROM mine

-- try_checkpoint --
-- The same, of which nothing is answered where somebody else moves it on.
WITH mine AS MATERIALIZED (
    SELECT version, position FROM bamboo_audit_projectioncheckpoint
    WHERE name = %(name)s FOR UPDATE SKIP LOCKED
)
SELECT version, position, pg_advisory_xact_lock_shared(
    (7307::bigint << 32) | (hashtext(%(name)s)::bigint & 4294967295)
)
FROM mine

-- checkpoints --
-- The projections that were ever caught up: how far each is, since when, how many records it has
-- set aside, and who moves it on just now. Redeliveries keep theirs in the same table; they lag
-- behind nothing.
SELECT c.name, c.position, c.updated_at,
       (SELECT count(*) FROM bamboo_audit_recordsetaside AS aside WHERE aside.projection = c.name),
       l.pid, a.xact_start
FROM bamboo_audit_projectioncheckpoint AS c
LEFT JOIN LATERAL (
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = 7307
      AND objid::bigint = hashtext(c.name)::bigint & 4294967295
    LIMIT 1
) AS l ON true
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE NOT starts_with(c.name, 'redeliver:')
ORDER BY c.name

-- begin_checkpoint --
-- A projection is at a position; one that is known stays as it is.
INSERT INTO bamboo_audit_projectioncheckpoint (name, version, position)
VALUES (%(name)s, %(version)s, %(position)s)
ON CONFLICT (name) DO NOTHING

-- move_checkpoint --
-- A projection has applied all up to a position.
UPDATE bamboo_audit_projectioncheckpoint
SET version = %(version)s, position = %(position)s, updated_at = clock_timestamp()
WHERE name = %(name)s

-- checkpoint --
-- How far a projection is.
SELECT version, position FROM bamboo_audit_projectioncheckpoint WHERE name = %(name)s

-- count_aside --
-- How many records and runs a projection has set aside after a position.
SELECT count(*) FROM bamboo_audit_recordsetaside
WHERE projection = %(projection)s AND position > %(after)s

-- set_aside --
-- A projection goes on without a record, or without a run, which is told by its last record only.
WITH earlier AS (
    DELETE FROM bamboo_audit_recordsetaside
    WHERE projection = %(projection)s AND whole_run AND %(whole_run)s
      AND root_pipeline_id = %(root)s AND position <> %(position)s
)
INSERT INTO bamboo_audit_recordsetaside (projection, position, root_pipeline_id, whole_run, error)
VALUES (%(projection)s, %(position)s, %(root)s, %(whole_run)s, %(error)s)
ON CONFLICT (projection, position, root_pipeline_id) DO UPDATE SET
    (whole_run, error, set_aside_at) = (excluded.whole_run, excluded.error, clock_timestamp())

-- take_back_runs --
-- Runs that a projection could not fold before, and now could.
DELETE FROM bamboo_audit_recordsetaside
WHERE projection = %(projection)s AND whole_run AND root_pipeline_id = ANY (%(roots)s::text[])

-- take_back_all --
-- A projection begins anew.
DELETE FROM bamboo_audit_recordsetaside WHERE projection = %(projection)s

-- batch_records --
-- The records after one position and up to another, of some types where they are given.
SELECT id, event_type, root_pipeline_id, pipeline_id, node_id, node_version, data::text,
       context::text, occurred_at, writer_id, writer_position
FROM bamboo_audit_pipelineeventrecord
WHERE id > %(after)s AND id <= %(until)s
  AND (%(types)s::text[] IS NULL OR event_type = ANY (%(types)s::text[]))
ORDER BY id

-- touched_runs --
-- The runs that the records after one position and up to another are of, each with the last of
-- them: by themselves; by the node or pipeline that they name, where they were stored before
-- their run was known; and of a gap those that its writer took part in, in its time. Beside the
-- last position, when the first of them occurred, in microseconds, and whether any came without
-- its run; of a gap neither.
WITH fresh AS MATERIALIZED (
    SELECT id, event_type, root_pipeline_id, pipeline_id, node_id, writer_id, occurred_at,
           CASE WHEN event_type = 'gap' THEN data END AS gap
    FROM bamboo_audit_pipelineeventrecord
    WHERE id > %(after)s AND id <= %(until)s
), touched (root_pipeline_id, id, occurred_at, is_rootless) AS (
    SELECT root_pipeline_id, id, occurred_at, false FROM fresh WHERE root_pipeline_id <> ''
    UNION ALL
    SELECT earlier.root_pipeline_id, fresh.id, fresh.occurred_at, true
    FROM fresh
    CROSS JOIN LATERAL (
        SELECT r.root_pipeline_id
        FROM bamboo_audit_pipelineeventrecord AS r
        WHERE r.node_id = coalesce(nullif(fresh.node_id, ''), fresh.pipeline_id)
          AND r.root_pipeline_id <> ''
        LIMIT 1
    ) AS earlier
    WHERE fresh.root_pipeline_id = '' AND fresh.gap IS NULL
      AND (fresh.node_id <> '' OR fresh.pipeline_id <> '')
    UNION ALL
    SELECT fresh.pipeline_id, fresh.id, fresh.occurred_at, true
    FROM fresh
    WHERE fresh.root_pipeline_id = '' AND fresh.node_id = '' AND fresh.pipeline_id <> ''
      AND EXISTS (
          SELECT FROM bamboo_audit_pipelineeventrecord AS r
          WHERE r.root_pipeline_id = fresh.pipeline_id
      )
    UNION ALL
    SELECT node.root_pipeline_id, fresh.id, fresh.occurred_at, true
    FROM fresh
    JOIN bamboo_audit_nodetimeline AS node
      ON node.node_id = coalesce(nullif(fresh.node_id, ''), fresh.pipeline_id)
    WHERE fresh.root_pipeline_id = '' AND fresh.gap IS NULL
    UNION ALL
    SELECT run.root_pipeline_id, fresh.id, NULL, false
    FROM fresh
    JOIN bamboo_audit_pipelinetimeline AS run
      ON run.writers @> ARRAY[coalesce(fresh.gap ->> 'writer_id', fresh.writer_id::text)]
     AND run.last_at >= fresh.occurred_at - %(told_within)s::interval
    WHERE fresh.gap IS NOT NULL
)
SELECT root_pipeline_id, max(id), (extract(epoch FROM min(occurred_at)) * 1000000)::bigint,
       bool_or(is_rootless)
FROM touched GROUP BY root_pipeline_id ORDER BY root_pipeline_id
