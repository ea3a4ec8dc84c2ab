-- append_record --
-- Append one record. The run of an operation whose tree this process never saw is looked up in
-- the log itself: by the node, by the pipeline, which has records as a node of its own, or, where
-- state changes are not recorded, as a pipeline that is a run itself.
-- One message of three statements: the first bounds the second. The third gives a transaction of
-- the caller's its own bound back (a local setting outlives a savepoint); a transaction of ours
-- stays bounded through its COMMIT, which may wait for a standby.
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
-- The gap records since a moment, and how many events they tell of.
SELECT count(*), coalesce(sum((data ->> 'count')::bigint), 0), max(occurred_at)
FROM bamboo_audit_pipelineeventrecord
WHERE event_type = 'gap' AND occurred_at >= %(since)s

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
