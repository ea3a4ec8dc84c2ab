-- has_schema --
-- Whether there is a schema of this name.
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %(name)s)

-- create_next_schema --
-- Roles that may not do this are given the schema by audit_grants.
CREATE SCHEMA IF NOT EXISTS {next}

-- lock_rebuild --
-- Who begins, ends or gives up a rebuild does so alone. 7306: no other lock of ours has it.
SELECT pg_advisory_xact_lock(
    (7306::bigint << 32) | 'bamboo_audit_pipelineeventrecord'::regclass::oid::bigint
)

-- next_tables --
-- The tables beside.
SELECT relname FROM pg_class
WHERE relkind = 'r'
  AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(next)s)
ORDER BY relname

-- drop_next_table --
-- A rebuild is over, or given up.
DROP TABLE {next}.{table}

-- create_books --
-- How far a rebuild is. Not logged, like all that is beside: after a crash of the server all of it
-- is empty together, and the rebuild begins anew.
CREATE UNLOGGED TABLE {next}.bamboo_audit_rebuild (
    token text NOT NULL,
    projections jsonb NOT NULL,
    selection jsonb NOT NULL,
    head bigint NOT NULL,
    error text NOT NULL DEFAULT '',
    turn integer NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNLOGGED TABLE {next}.bamboo_audit_rebuildshard (
    shard integer PRIMARY KEY,
    roots text[] NOT NULL,
    first bigint NOT NULL,
    records bigint NOT NULL,
    is_done boolean NOT NULL DEFAULT false
);
CREATE INDEX bamboo_audit_rebuildshard_waiting ON {next}.bamboo_audit_rebuildshard (shard)
    WHERE NOT is_done;
CREATE UNLOGGED TABLE {next}.bamboo_audit_projectioncheckpoint
    (LIKE {schema}.bamboo_audit_projectioncheckpoint INCLUDING ALL);
CREATE UNLOGGED TABLE {next}.bamboo_audit_recordsetaside
    (LIKE {schema}.bamboo_audit_recordsetaside INCLUDING ALL)

-- create_next_table --
-- A projection's table beside the one that serves, with its keys.
CREATE UNLOGGED TABLE {next}.{table} (LIKE {live} INCLUDING ALL)

-- create_next_heap --
-- The same without keys.
CREATE UNLOGGED TABLE {next}.{table} (
    LIKE {live} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING IDENTITY INCLUDING STORAGE
    INCLUDING COMPRESSION
)

-- look_beside --
-- Until the end of the transaction the tables beside are meant where there are some. What a role
-- is given for its queries is not enough for these.
SELECT set_config(
    'search_path',
    quote_ident(%(next)s) || ', ' || current_setting('search_path'),
    true
), set_config('statement_timeout', '0', true),
   set_config('idle_in_transaction_session_timeout', '0', true)

-- hold_books --
-- Whether this rebuild is still under way; until the transaction ends nobody drops what is beside.
SELECT projections::text, selection::text, head, started_at, token
FROM {next}.bamboo_audit_rebuild WHERE token = %(token)s FOR KEY SHARE

-- lock_books --
-- Who is to drop what is beside waits for all that are at it, before he has locked anything else
-- there. Others may still look how far it is.
LOCK TABLE {next}.bamboo_audit_rebuild IN EXCLUSIVE MODE

-- written_elsewhere --
-- How many rows this session has lately written to tables that are not beside. Also before this
-- transaction: the server forgets it now and then, and never in the middle of one.
SELECT relid::regclass::text, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_xact_user_tables
WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 AND schemaname <> %(next)s
  AND schemaname NOT LIKE 'pg\_%%'
ORDER BY relid

-- add_rebuild --
-- A rebuild begins.
INSERT INTO {next}.bamboo_audit_rebuild (projections, selection, head, token)
VALUES (%(projections)s::jsonb, %(selection)s::jsonb, %(head)s, %(token)s)

-- rebuild_under_way --
-- What is rebuilt, of which part of the log, up to where, and since when.
SELECT projections::text, selection::text, head, started_at, token
FROM {next}.bamboo_audit_rebuild

-- next_turn --
-- Tasks are sent; those that were sent before are not to go on.
UPDATE {next}.bamboo_audit_rebuild SET turn = turn + 1 WHERE token = %(token)s RETURNING turn

-- present_turn --
-- Which tasks are to go on.
SELECT turn FROM {next}.bamboo_audit_rebuild WHERE token = %(token)s

-- left_out --
-- How many runs and records a projection is made without.
SELECT count(*) FROM {next}.bamboo_audit_recordsetaside WHERE projection = %(name)s

-- report --
-- Why somebody who works at it cannot go on; empty: let all try again.
UPDATE {next}.bamboo_audit_rebuild SET error = %(error)s WHERE token = %(token)s

-- reported --
-- What was said last.
SELECT error FROM {next}.bamboo_audit_rebuild

-- plan_shards --
-- Runs that begin after each other, in parts of about so many records.
INSERT INTO {next}.bamboo_audit_rebuildshard (shard, roots, first, records)
SELECT row_number() OVER (ORDER BY part), array_agg(root_pipeline_id ORDER BY first), min(first),
       sum(records)
FROM (
    SELECT root_pipeline_id, first, records,
           div(
               sum(records) OVER (ORDER BY first, root_pipeline_id) - records, %(size)s::bigint
           ) AS part
    FROM (
        SELECT root_pipeline_id, min(id) AS first, count(*) AS records
        FROM bamboo_audit_pipelineeventrecord
        WHERE root_pipeline_id <> '' AND id <= %(head)s
          AND (%(roots)s::text[] IS NULL OR root_pipeline_id = ANY (%(roots)s::text[]))
        GROUP BY root_pipeline_id
    ) AS runs
) AS parts
GROUP BY part

-- runs_between --
-- The runs of which anything was recorded in a time.
SELECT DISTINCT root_pipeline_id FROM bamboo_audit_pipelineeventrecord
WHERE root_pipeline_id <> ''
  AND (%(since)s::timestamptz IS NULL OR occurred_at >= %(since)s::timestamptz)
  AND (%(until)s::timestamptz IS NULL OR occurred_at < %(until)s::timestamptz)

-- claim_shard --
-- A part that nobody works at; it is free again when who claimed it is gone.
SELECT shard, roots, first FROM {next}.bamboo_audit_rebuildshard
WHERE NOT is_done ORDER BY shard LIMIT 1 FOR UPDATE SKIP LOCKED

-- end_shard --
-- A part is done.
UPDATE {next}.bamboo_audit_rebuildshard SET is_done = true WHERE shard = %(shard)s

-- shards_done --
-- How many records there are, in how many parts, and of both how many are done.
SELECT coalesce(sum(records), 0)::bigint, count(*),
       coalesce(sum(records) FILTER (WHERE is_done), 0)::bigint, count(*) FILTER (WHERE is_done)
FROM {next}.bamboo_audit_rebuildshard

-- planned_runs --
-- The runs of all parts.
SELECT unnest(roots) FROM {next}.bamboo_audit_rebuildshard

-- take_checkpoint --
-- How far a projection is that serves, for those that are made beside.
INSERT INTO {next}.bamboo_audit_projectioncheckpoint (name, version, position)
SELECT name, version, position FROM {schema}.bamboo_audit_projectioncheckpoint
WHERE name = %(name)s
ON CONFLICT (name) DO UPDATE SET position = excluded.position

-- shard_records --
-- The records of some runs, in no order; after a moment and up to a position, where they are given. What plugins are called with tells the fold nothing, and
-- of where they come from it takes the task only; for the engine's changes of state not even that.
-- The tree of post_prepare is that of pre_prepare.
SELECT root_pipeline_id, id, (extract(epoch FROM occurred_at) * 1000000)::bigint,
       writer_id::text, writer_position, event_type, pipeline_id, node_id, node_version,
       CASE WHEN event_type = ANY (%(plain)s::text[]) THEN NULL
            WHEN event_type = 'post_prepare_run_pipeline' THEN NULL
            ELSE data::text END,
       CASE WHEN context ? 'suppressed' THEN context::text
            WHEN event_type = ANY (%(plain)s::text[]) THEN NULL
            WHEN event_type = 'post_set_state' AND context ->> 'sender' = %(sender)s THEN NULL
            ELSE context::text END,
       CASE WHEN event_type = ANY (%(plain)s::text[]) THEN context #>> '{task,id}' END
FROM bamboo_audit_pipelineeventrecord
WHERE root_pipeline_id = ANY (%(roots)s::text[]) AND id >= %(first)s
  AND (%(since)s::timestamptz IS NULL OR occurred_at > %(since)s::timestamptz)
  AND (%(last)s::bigint IS NULL OR id <= %(last)s::bigint)

-- any_rootless --
-- Whether the log has operations that were stored before anybody knew their run.
SELECT EXISTS (
    SELECT FROM bamboo_audit_pipelineeventrecord
    WHERE root_pipeline_id = '' AND (node_id <> '' OR pipeline_id <> '')
)

-- columns --
-- A table's columns that somebody writes, and whether the database draws them.
SELECT attname,
       attidentity <> '' OR coalesce(
           pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%%', false
       )
FROM pg_attribute AS a
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped
  AND a.attgenerated = ''
ORDER BY a.attnum

-- merge_gone --
-- Delete the rows that are not among those that were made beside. Rows of runs stay whose
-- beginning the log has no more, or that were left out.
WITH old AS MATERIALIZED (
    SELECT tableoid AS audit_table, ctid AS audit_place, {content}::text AS audit_content,
           {number} AS audit_number
    FROM {live} AS audit_each
    WHERE (%(roots)s::text[] IS NULL OR {root} = ANY (%(roots)s::text[]))
      AND NOT EXISTS (
          SELECT FROM {schema}.bamboo_audit_pipelinetimeline AS run
          WHERE run.root_pipeline_id = {root}
            AND run.first_position < coalesce(%(horizon)s::bigint, 9223372036854775807)
      )
      AND NOT EXISTS (
          SELECT FROM {next}.bamboo_audit_recordsetaside AS aside
          WHERE aside.projection = %(projection)s AND aside.whole_run
            AND aside.root_pipeline_id = {root}
      )
)
DELETE FROM {live} AS audit_each USING old
WHERE audit_each.tableoid = old.audit_table AND audit_each.ctid = old.audit_place
  AND NOT EXISTS (
      SELECT FROM (
          SELECT {content}::text AS audit_content, {number} AS audit_number
          FROM {beside} AS audit_each
      ) AS new
      WHERE new.audit_content = old.audit_content AND new.audit_number = old.audit_number
  )

-- merge_fresh --
-- Insert the rows that were made beside and that are not there.
WITH new AS MATERIALIZED (
    SELECT {columns}, {content}::text AS audit_content, {number} AS audit_number
    FROM {beside} AS audit_each
    WHERE (%(roots)s::text[] IS NULL OR {root} = ANY (%(roots)s::text[]))
      AND NOT EXISTS (
          SELECT FROM {schema}.bamboo_audit_pipelinetimeline AS run
          WHERE run.root_pipeline_id = {root}
            AND run.first_position < coalesce(%(horizon)s::bigint, 9223372036854775807)
      )
      AND NOT EXISTS (
          SELECT FROM {next}.bamboo_audit_recordsetaside AS aside
          WHERE aside.projection = %(projection)s AND aside.whole_run
            AND aside.root_pipeline_id = {root}
      )
)
INSERT INTO {live} ({columns})
SELECT {columns} FROM new
WHERE NOT EXISTS (
    SELECT FROM (
        SELECT {content}::text AS audit_content, {number} AS audit_number
        FROM {live} AS audit_each
    ) AS old
    WHERE new.audit_content = old.audit_content AND new.audit_number = old.audit_number
)
ON CONFLICT DO NOTHING

-- count_differing --
-- How many rows only the table that serves has, and how many only the one beside.
WITH old AS MATERIALIZED (
    SELECT {content}::text AS audit_content, {number} AS audit_number
    FROM {live} AS audit_each
    WHERE (%(roots)s::text[] IS NULL OR {root} = ANY (%(roots)s::text[]))
      AND NOT EXISTS (
          SELECT FROM {schema}.bamboo_audit_pipelinetimeline AS run
          WHERE run.root_pipeline_id = {root}
            AND run.first_position < coalesce(%(horizon)s::bigint, 9223372036854775807)
      )
      AND NOT EXISTS (
          SELECT FROM {next}.bamboo_audit_recordsetaside AS aside
          WHERE aside.projection = %(projection)s AND aside.whole_run
            AND aside.root_pipeline_id = {root}
      )
), new AS MATERIALIZED (
    SELECT {content}::text AS audit_content, {number} AS audit_number
    FROM {beside} AS audit_each
    WHERE (%(roots)s::text[] IS NULL OR {root} = ANY (%(roots)s::text[]))
      AND NOT EXISTS (
          SELECT FROM {schema}.bamboo_audit_pipelinetimeline AS run
          WHERE run.root_pipeline_id = {root}
            AND run.first_position < coalesce(%(horizon)s::bigint, 9223372036854775807)
      )
      AND NOT EXISTS (
          SELECT FROM {next}.bamboo_audit_recordsetaside AS aside
          WHERE aside.projection = %(projection)s AND aside.whole_run
            AND aside.root_pipeline_id = {root}
      )
)
SELECT (SELECT count(*) FROM old WHERE NOT EXISTS (
            SELECT FROM new WHERE new.audit_content = old.audit_content
              AND new.audit_number = old.audit_number)),
       (SELECT count(*) FROM new WHERE NOT EXISTS (
            SELECT FROM old WHERE new.audit_content = old.audit_content
              AND new.audit_number = old.audit_number))

-- merge_checkpoints --
-- What was rebuilt is as far as what was made beside.
INSERT INTO {schema}.bamboo_audit_projectioncheckpoint (name, version, position)
SELECT name, version, position FROM {next}.bamboo_audit_projectioncheckpoint
WHERE name = ANY (%(names)s::text[])
ON CONFLICT (name) DO UPDATE SET
    (version, position, updated_at) = (excluded.version, excluded.position, clock_timestamp())

-- forget_aside --
-- What projections went on without, of all runs or of some.
DELETE FROM {schema}.bamboo_audit_recordsetaside
WHERE projection = ANY (%(names)s::text[])
  AND (%(roots)s::text[] IS NULL OR root_pipeline_id = ANY (%(roots)s::text[]))

-- take_aside --
-- What a rebuild went on without is what its projections go on without.
INSERT INTO {schema}.bamboo_audit_recordsetaside
    (projection, position, root_pipeline_id, whole_run, error, set_aside_at)
SELECT projection, position, root_pipeline_id, whole_run, error, set_aside_at
FROM {next}.bamboo_audit_recordsetaside
ON CONFLICT (projection, position, root_pipeline_id) DO NOTHING

-- horizon --
-- The first position that the log still has; NULL where it has none.
SELECT min(id) FROM bamboo_audit_pipelineeventrecord
