-- append_record --
-- Append one record. The run of an operation whose tree this process never saw is looked up in
-- the log itself: by the node, by the pipeline, which has records as a node of its own, or, where
-- state changes are not recorded, as a pipeline that is a run itself.
-- One message of three statements: the first bounds the second and announces it (see
-- 0002_writers.sql). The third gives a transaction of
-- the caller's its own bound back (a local setting outlives a savepoint); a transaction of ours
-- stays bounded through its COMMIT, which may wait for a standby.
SELECT set_config('bamboo_audit.statement_timeout', current_setting('statement_timeout'), true),
       set_config('statement_timeout', %(timeout)s, true),
       bamboo_audit_announce_append();
INSERT INTO bamboo_audit_pipelineeventrecord (
    event_type, root_pipeline_id, pipeline_id, node_id, node_version,
    data, context, occurred_at, writer_id, writer_position
) VALUES (
    %(event_type)s,
    coalesce(
        nullif(%(root_pipeline_id)s, ''),
        (
            SELECT earlier.root_pipeline_id
            FROM bamboo_audit_pipelineeventrecord AS earlier
            WHERE earlier.node_id = coalesce(nullif(%(node_id)s, ''), nullif(%(pipeline_id)s, ''))
              AND earlier.root_pipeline_id <> ''
            LIMIT 1
        ),
        (
            SELECT earlier.root_pipeline_id
            FROM bamboo_audit_pipelineeventrecord AS earlier
            WHERE earlier.root_pipeline_id = nullif(%(pipeline_id)s, '')
            LIMIT 1
        ),
        ''
    ),
    %(pipeline_id)s, %(node_id)s, %(node_version)s,
    %(data)s::jsonb, %(context)s::jsonb, %(occurred_at)s, %(writer_id)s, %(writer_position)s
)
RETURNING id;
SELECT set_config('statement_timeout', current_setting('bamboo_audit.statement_timeout'), true)
WHERE %(nested)s

-- bound_statements --
-- Bound the statements that follow in this transaction, in milliseconds; answers what was before.
SELECT current_setting('statement_timeout'), set_config('statement_timeout', %(timeout)s, true)

-- create_partitions --
-- Make partitions ahead of the newest position; answers the names of the new ones.
SELECT bamboo_audit_create_partitions(%(size)s, %(ahead)s)::regclass::text

-- partitions --
-- The partitions of the log with their bounds (low is inside, high is not; NULL where they are not
-- of our making), sizes in bytes and whether the database guards them against change.
SELECT c.oid::regclass::text AS name,
       b.m[1]::bigint AS low,
       b.m[2]::bigint AS high,
       pg_total_relation_size(c.oid) AS bytes,
       g.guarded
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
CROSS JOIN LATERAL (
    SELECT regexp_match(
        pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(\d+)''\) TO \(''(\d+)''\)'
    ) AS m
) b
CROSS JOIN LATERAL (
    -- Ours stand and do what they did; nobody else's goes before an insert and swallows it.
    SELECT count(*) FILTER (
               WHERE t.tgname IN ('bamboo_audit_no_change', 'bamboo_audit_no_truncate')
                 AND t.tgenabled = 'A' AND t.tgqual IS NULL AND p.prosrc = %(guard)s
           ) = 2
           AND count(*) FILTER (WHERE NOT t.tgisinternal AND t.tgtype & 6 = 6) = 0 AS guarded
    FROM pg_trigger t
    JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = c.oid
) g
WHERE i.inhparent = to_regclass('bamboo_audit_pipelineeventrecord')
ORDER BY low NULLS FIRST, name

-- log_facts --
-- The log's server, owner and guards; one row also where the table is missing.
SELECT current_setting('server_version_num')::integer AS server_version,
       current_user AS role,
       c.oid IS NOT NULL AS present,
       pg_get_userbyid(c.relowner) AS owner,
       pg_has_role(c.relowner, 'MEMBER') OR pg_has_role(n.nspowner, 'MEMBER') AS may_change_guards,
       g.guarded
FROM (SELECT to_regclass('bamboo_audit_pipelineeventrecord') AS log) AS l
LEFT JOIN pg_class c ON c.oid = l.log
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (
               WHERE t.tgname IN ('bamboo_audit_no_change', 'bamboo_audit_no_truncate')
                 AND t.tgenabled = 'A' AND t.tgqual IS NULL AND p.prosrc = %(guard)s
           ) = 2
           AND count(*) FILTER (WHERE NOT t.tgisinternal AND t.tgtype & 6 = 6) = 0 AS guarded
    FROM pg_trigger t
    JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = l.log
) g

-- newest_record --
-- The record with the highest position.
SELECT id, event_type, occurred_at, recorded_at
FROM bamboo_audit_pipelineeventrecord
ORDER BY id DESC
LIMIT 1

-- gaps --
-- The gap records since a moment, how many events they tell of, and how many cannot tell.
SELECT count(*), coalesce(sum(
           CASE WHEN jsonb_typeof(data -> 'count') = 'number' THEN (data ->> 'count')::numeric END
       ), 0),
       count(*) FILTER (WHERE jsonb_typeof(data -> 'count') IS DISTINCT FROM 'number'),
       max(occurred_at)
FROM bamboo_audit_pipelineeventrecord
WHERE event_type = 'gap' AND occurred_at >= %(since)s

-- without_reason --
-- How many records of types that are to have a reason have none, since a moment.
SELECT count(*)
FROM bamboo_audit_pipelineeventrecord
WHERE event_type = ANY(%(event_types)s) AND occurred_at >= %(since)s
  AND context @> '{"reason_missing": true}'

-- role_powers --
-- What a role may do to the log beyond inserting and reading, one sentence a row; no row at all
-- where the log is missing. The first column tells whether there is such a role.
SELECT r.oid IS NOT NULL AS known, power.words
FROM (SELECT to_regclass('bamboo_audit_pipelineeventrecord') AS log) AS l
JOIN pg_class c ON c.oid = l.log
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_database d ON d.datname = current_database()
LEFT JOIN pg_roles r ON r.rolname = %(name)s
LEFT JOIN LATERAL (
    SELECT 'is a superuser: no grant binds it' AS words WHERE r.rolsuper
    UNION ALL
    SELECT 'may make roles (CREATEROLE), and itself a member of others' WHERE r.rolcreaterole
    UNION ALL
    SELECT 'is, or is a member of, the log''s owner' WHERE pg_has_role(r.oid, c.relowner, 'MEMBER')
    UNION ALL
    SELECT format('owns the schema %%I, and may drop what is in it', n.nspname)
    WHERE pg_has_role(r.oid, n.nspowner, 'MEMBER')
    UNION ALL
    SELECT format('owns the database %%I, and may drop it', d.datname)
    WHERE pg_has_role(r.oid, d.datdba, 'MEMBER')
    UNION ALL
    SELECT format('has %%s on %%s from another grant', privilege, t.oid::regclass)
    FROM pg_class t
    CROSS JOIN unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER', 'REFERENCES']) AS privilege
    WHERE (t.oid = l.log OR t.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = l.log))
      AND has_table_privilege(r.oid, t.oid, privilege)
    UNION ALL
    SELECT format('may insert whole rows into %%s', t.oid::regclass)
    FROM pg_class t
    WHERE (t.oid = l.log OR t.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = l.log))
      AND has_table_privilege(r.oid, t.oid, 'INSERT')
) AS power ON r.oid IS NOT NULL AND (NOT r.rolsuper OR power.words LIKE 'is a superuser%%')

-- log_schema --
-- The schema that the log is in.
SELECT n.nspname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass('bamboo_audit_pipelineeventrecord')

-- register_writers --
-- Make writers known, before their first record is sent; those that are known stay as they are.
-- One whose segment is so old may have been known, and forgotten since: then the log itself tells
-- how far its records are. That reads the whole log, once in the life of a host that was away.
INSERT INTO bamboo_audit_spoolwriter (writer_id, host, pid, kind, spool, started_at, position)
SELECT new.*,
       CASE WHEN new.started_at < clock_timestamp() - %(forgotten)s::interval THEN coalesce(
           (SELECT max(r.writer_position) FROM bamboo_audit_pipelineeventrecord r
            WHERE r.writer_id = new.writer_id),
           0
       ) ELSE 0 END
FROM unnest(
    %(writers)s::uuid[], %(hosts)s::text[], %(pids)s::integer[], %(kinds)s::text[],
    %(spools)s::text[], %(started)s::timestamptz[]
) AS new (writer_id, host, pid, kind, spool, started_at)
WHERE NOT EXISTS (
    SELECT FROM bamboo_audit_spoolwriter known WHERE known.writer_id = new.writer_id
)
ON CONFLICT (writer_id) DO NOTHING

-- writer_positions --
-- How far the records of some writers are in the log, and when the last of them occurred.
SELECT writer_id, position, last_at
FROM bamboo_audit_spoolwriter
WHERE writer_id = ANY (%(writers)s::uuid[])

-- keep_writers_alive --
-- Say that these writers are alive, and answer how far their records are.
UPDATE bamboo_audit_spoolwriter
SET seen_at = clock_timestamp()
WHERE writer_id = ANY (%(writers)s::uuid[])
RETURNING writer_id, position

-- end_writer --
-- A writer goes on no more, and all that it left is in the log.
UPDATE bamboo_audit_spoolwriter
SET ended = %(ended)s, ended_at = clock_timestamp(), seen_at = clock_timestamp()
WHERE writer_id = %(writer)s AND ended IN ('', 'lost')

-- silent_writers --
-- Writers that neither closed nor were seen for a while: what they had left is not known.
SELECT writer_id, host, pid, kind, position, seen_at
FROM bamboo_audit_spoolwriter
WHERE ended = '' AND seen_at < clock_timestamp() - %(silence)s::interval
ORDER BY writer_id
FOR UPDATE SKIP LOCKED

-- lose_writers --
-- These writers are not waited for any longer.
UPDATE bamboo_audit_spoolwriter
SET ended = 'lost', ended_at = clock_timestamp()
WHERE writer_id = ANY (%(writers)s::uuid[]) AND ended = ''

-- prune_writers --
-- Forget writers that ended well long ago. One that was lost is remembered: its spool may return.
DELETE FROM bamboo_audit_spoolwriter
WHERE ended IN ('closed', 'died') AND ended_at < clock_timestamp() - %(age)s::interval

-- writers_summary --
-- How many writers go on, are silent, were lost; what is missing of all; the latest sign of life.
SELECT count(*) FILTER (WHERE ended = ''),
       count(*) FILTER (WHERE ended = '' AND seen_at < clock_timestamp() - %(silence)s::interval),
       count(*) FILTER (WHERE ended = 'lost'),
       coalesce(sum(missing), 0),
       max(seen_at)
FROM bamboo_audit_spoolwriter

-- begin_append --
-- Move writers on, in the transaction that appends their records.
SELECT bamboo_audit_advance(
    %(writers)s::uuid[], %(expected)s::bigint[], %(reached)s::bigint[], %(missed)s::bigint[],
    %(latest)s::timestamptz[]
)

-- append_rows --
-- Rows as ``audit.capture.row`` makes them.
COPY bamboo_audit_pipelineeventrecord (
    occurred_at, writer_position, writer_id, event_type, root_pipeline_id, pipeline_id, node_id,
    node_version, data, context
) FROM STDIN (FORMAT BINARY)

-- assume_role --
-- Act as another role until the transaction ends.
SELECT set_config('role', %(role)s, true)

-- refusals --
-- Which of some documents jsonb does not take, counted from 1, and why.
SELECT document.ordinal, coalesce(of_data.why, of_context.why)
FROM unnest(%(data)s::text[], %(context)s::text[])
    WITH ORDINALITY AS document (data, context, ordinal)
CROSS JOIN LATERAL bamboo_audit_refusal(document.data) AS of_data (why)
CROSS JOIN LATERAL bamboo_audit_refusal(document.context) AS of_context (why)
WHERE of_data.why IS NOT NULL OR of_context.why IS NOT NULL

-- roots --
-- The runs of nodes and pipelines, as records in the log have them.
SELECT asked.id, found.root_pipeline_id
FROM unnest(%(ids)s::text[]) AS asked (id)
CROSS JOIN LATERAL (
    (
        SELECT earlier.root_pipeline_id
        FROM bamboo_audit_pipelineeventrecord AS earlier
        WHERE earlier.node_id = asked.id AND earlier.root_pipeline_id <> ''
        LIMIT 1
    )
    UNION ALL
    (
        SELECT earlier.root_pipeline_id
        FROM bamboo_audit_pipelineeventrecord AS earlier
        WHERE earlier.root_pipeline_id = asked.id
        LIMIT 1
    )
    LIMIT 1
) AS found

-- database_time --
-- The database's clock.
SELECT clock_timestamp()
