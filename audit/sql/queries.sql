-- append_record --
-- Append one record. The run of an operation whose tree this process never saw is looked up in
-- the log itself: by the node, by the pipeline, which has records as a node of its own, or, where
-- state changes are not recorded, as a pipeline that is a run itself.
-- One message of three statements: the first bounds the second, and the third gives the caller's
-- transaction its own bound back (a local setting outlives a savepoint).
SELECT set_config('bamboo_audit.statement_timeout', current_setting('statement_timeout'), true),
       set_config('statement_timeout', %(timeout)s, true);
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

-- create_partitions --
-- Make partitions ahead of the newest position; answers the names of the new ones.
SELECT bamboo_audit_create_partitions(%(size)s, %(ahead)s)::regclass::text

-- partitions --
-- The partitions of the log with their bounds (low is inside, high is not), sizes in bytes and
-- whether the database guards them against change.
SELECT c.oid::regclass::text AS name,
       b.m[1]::bigint AS low,
       b.m[2]::bigint AS high,
       pg_total_relation_size(c.oid) AS bytes,
       (
           SELECT count(*) FILTER (WHERE t.tgenabled = 'A') = 2
           FROM pg_trigger t
           WHERE t.tgrelid = c.oid
             AND t.tgname IN ('bamboo_audit_no_change', 'bamboo_audit_no_truncate')
       ) AS guarded
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
CROSS JOIN LATERAL (
    SELECT regexp_match(
        pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(\d+)''\) TO \(''(\d+)''\)'
    ) AS m
) b
WHERE i.inhparent = to_regclass('bamboo_audit_pipelineeventrecord')
ORDER BY low

-- log_facts --
-- The log's server, owner and newest record; one row also where the table is missing.
SELECT current_setting('server_version_num')::integer AS server_version,
       current_user AS role,
       to_regclass('bamboo_audit_pipelineeventrecord') IS NOT NULL AS present,
       (
           SELECT pg_get_userbyid(c.relowner)
           FROM pg_class c
           WHERE c.oid = to_regclass('bamboo_audit_pipelineeventrecord')
       ) AS owner,
       (
           SELECT pg_has_role(c.relowner, 'MEMBER')
           FROM pg_class c
           WHERE c.oid = to_regclass('bamboo_audit_pipelineeventrecord')
       ) AS may_change_guards,
       (
           SELECT count(*) FILTER (WHERE t.tgenabled = 'A') = 2
           FROM pg_trigger t
           WHERE t.tgrelid = to_regclass('bamboo_audit_pipelineeventrecord')
             AND t.tgname IN ('bamboo_audit_no_change', 'bamboo_audit_no_truncate')
       ) AS guarded

-- newest_record --
-- The record with the highest position.
SELECT id, event_type, occurred_at, recorded_at
FROM bamboo_audit_pipelineeventrecord
ORDER BY id DESC
LIMIT 1

-- gaps --
-- The gap records since a moment, and how many events they tell of.
SELECT count(*), coalesce(sum((data ->> 'count')::bigint), 0), max(occurred_at)
FROM bamboo_audit_pipelineeventrecord
WHERE event_type = 'gap' AND occurred_at >= %(since)s

-- role --
-- A role by name.
SELECT rolname, rolsuper FROM pg_roles WHERE rolname = %(name)s

-- log_schema --
-- The schema that the log is in.
SELECT n.nspname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass('bamboo_audit_pipelineeventrecord')
