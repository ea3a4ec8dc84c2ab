-- run_records --
-- The records of one run, in no order; up to a moment, where one is given. The tree of
-- post_prepare is that of pre_prepare; where that one is there, it is not read again.
SELECT id, (extract(epoch FROM occurred_at) * 1000000)::bigint, writer_id::text, writer_position,
       event_type, pipeline_id, node_id, node_version,
       CASE WHEN event_type = 'post_prepare_run_pipeline' AND EXISTS (
                SELECT FROM bamboo_audit_pipelineeventrecord AS first
                WHERE first.root_pipeline_id = %(root)s
                  AND first.event_type = 'pre_prepare_run_pipeline'
                  AND (%(until)s::timestamptz IS NULL OR first.occurred_at <= %(until)s::timestamptz)
            )
            THEN '{}' ELSE data::text END,
       context::text
FROM bamboo_audit_pipelineeventrecord
WHERE root_pipeline_id = %(root)s
  AND (%(until)s::timestamptz IS NULL OR occurred_at <= %(until)s::timestamptz)

-- rootless_since --
-- What was stored before anybody knew its run: after a moment, and between two positions.
SELECT id, (extract(epoch FROM occurred_at) * 1000000)::bigint, writer_id::text, writer_position,
       event_type, pipeline_id, node_id, node_version, data::text, context::text
FROM bamboo_audit_pipelineeventrecord
WHERE root_pipeline_id = '' AND occurred_at > %(since)s
  AND id BETWEEN %(first)s AND %(last)s

-- run_nodes --
-- The nodes that a run's records name, at any time.
SELECT DISTINCT node_id FROM bamboo_audit_pipelineeventrecord
WHERE root_pipeline_id = %(root)s AND node_id <> ''

-- rootless_records --
-- Operations on some nodes and pipelines that were stored before anybody knew their run.
SELECT id, (extract(epoch FROM occurred_at) * 1000000)::bigint, writer_id::text, writer_position,
       event_type, pipeline_id, node_id, node_version, data::text, context::text
FROM bamboo_audit_pipelineeventrecord
WHERE root_pipeline_id = ''
  AND (node_id = ANY (%(nodes)s::text[]) OR pipeline_id = ANY (%(nodes)s::text[]))
  AND (%(until)s::timestamptz IS NULL OR occurred_at <= %(until)s::timestamptz)

-- run_gaps --
-- What is missing of some writers, told since a moment and until another, where one is given.
SELECT id,
       coalesce(data ->> 'writer_id', writer_id::text),
       CASE WHEN jsonb_typeof(data -> 'count') = 'number' THEN (data ->> 'count')::numeric END,
       CASE WHEN jsonb_typeof(data -> 'first_position') = 'number'
            THEN (data ->> 'first_position')::numeric END,
       CASE WHEN jsonb_typeof(data -> 'last_position') = 'number'
            THEN (data ->> 'last_position')::numeric END,
       data ->> 'first_at',
       data ->> 'last_at',
       occurred_at
FROM bamboo_audit_pipelineeventrecord
WHERE event_type = 'gap' AND occurred_at >= %(since)s
  AND (%(until)s::timestamptz IS NULL OR occurred_at <= %(until)s::timestamptz)
  AND coalesce(data ->> 'writer_id', writer_id::text) = ANY (%(writers)s::text[])
ORDER BY id

-- open_writers --
-- Of some writers those that may still tell of what they did: neither ended, nor known to have
-- shipped what they captured long after.
SELECT writer_id::text, last_at
FROM bamboo_audit_spoolwriter
WHERE writer_id = ANY (%(writers)s::uuid[]) AND ended IN ('', 'lost')

-- write_runs --
-- Write rows of runs: those that are new or differ.
INSERT INTO bamboo_audit_pipelinetimeline AS old
SELECT * FROM jsonb_populate_recordset(NULL::bamboo_audit_pipelinetimeline, %(rows)s::jsonb)
ON CONFLICT (root_pipeline_id) DO UPDATE SET
    (name, tags, state, version, actor, started_at, finished_at, first_at, last_at, expected_by,
     nodes, failed_nodes, attempts, failures, retries, skips, interventions, paused, reasons,
     actors, writers, first_position, last_position) =
    (excluded.name, excluded.tags, excluded.state, excluded.version, excluded.actor,
     excluded.started_at, excluded.finished_at, excluded.first_at, excluded.last_at,
     excluded.expected_by, excluded.nodes, excluded.failed_nodes, excluded.attempts,
     excluded.failures, excluded.retries, excluded.skips, excluded.interventions,
     excluded.paused, excluded.reasons, excluded.actors, excluded.writers,
     excluded.first_position, excluded.last_position)
WHERE old.* IS DISTINCT FROM excluded.*

-- write_nodes --
-- Write the rows of the nodes of some runs: those that are new or differ; of runs that are written as
-- a whole those that are no more go.
-- Where two runs name the same node, as one does that the engine refused because of that, it is
-- the run's that reached it, or was heard of it last.
WITH new AS MATERIALIZED (
    SELECT DISTINCT ON (node_id) *
    FROM jsonb_populate_recordset(NULL::bamboo_audit_nodetimeline, %(rows)s::jsonb)
    ORDER BY node_id, state <> '' DESC, last_position DESC, root_pipeline_id DESC
), gone AS (
    DELETE FROM bamboo_audit_nodetimeline AS old
    WHERE old.root_pipeline_id = ANY (%(roots)s::text[])
      AND NOT EXISTS (SELECT FROM new WHERE new.node_id = old.node_id)
)
INSERT INTO bamboo_audit_nodetimeline AS old
SELECT * FROM new
ON CONFLICT (node_id) DO UPDATE SET
    (root_pipeline_id, parent_id, name, node_type, component_code, template_node_id, state,
     version, loop, retry, skip, error_ignored, attempts, failures, interventions, actors,
     started_at, finished_at, running, last_error, last_position) =
    (excluded.root_pipeline_id, excluded.parent_id, excluded.name, excluded.node_type,
     excluded.component_code, excluded.template_node_id, excluded.state, excluded.version,
     excluded.loop, excluded.retry, excluded.skip, excluded.error_ignored, excluded.attempts,
     excluded.failures, excluded.interventions, excluded.actors, excluded.started_at,
     excluded.finished_at, excluded.running, excluded.last_error, excluded.last_position)
WHERE old.* IS DISTINCT FROM excluded.*
  AND (
      old.root_pipeline_id = excluded.root_pipeline_id
      OR (old.state <> '', old.last_position, old.root_pipeline_id)
       < (excluded.state <> '', excluded.last_position, excluded.root_pipeline_id)
  )

-- write_transitions --
-- Write the transitions of some runs, and of others those of some nodes that were not left by a
-- moment: those that are new or differ; those that are no more go.
WITH new AS MATERIALIZED (
    SELECT DISTINCT ON (node_id, ordinal) *
    FROM jsonb_populate_recordset(NULL::bamboo_audit_statetransition, %(rows)s::jsonb)
    ORDER BY node_id, ordinal, root_pipeline_id DESC
), gone AS (
    DELETE FROM bamboo_audit_statetransition AS old
    WHERE (
              old.root_pipeline_id = ANY (%(roots)s::text[])
              OR old.node_id = ANY (%(nodes)s::text[])
                 AND EXISTS (
                     SELECT FROM unnest(%(parts)s::text[], %(since)s::timestamptz[]) AS part (root, at)
                     WHERE part.root = old.root_pipeline_id
                       AND (old.left_at IS NULL OR old.left_at > part.at)
                 )
          )
      AND NOT EXISTS (
          SELECT FROM new WHERE new.node_id = old.node_id AND new.ordinal = old.ordinal
      )
)
INSERT INTO bamboo_audit_statetransition AS old (
    node_id, ordinal, root_pipeline_id, from_state, state, entered_at, left_at, version, loop,
    attempt, cause, cause_type, actor, reason, irregular
)
SELECT node_id, ordinal, root_pipeline_id, from_state, state, entered_at, left_at, version, loop,
       attempt, cause, cause_type, actor, reason, irregular
FROM new
ON CONFLICT (node_id, ordinal) DO UPDATE SET
    (root_pipeline_id, from_state, state, entered_at, left_at, version, loop, attempt, cause,
     cause_type, actor, reason, irregular) =
    (excluded.root_pipeline_id, excluded.from_state, excluded.state, excluded.entered_at,
     excluded.left_at, excluded.version, excluded.loop, excluded.attempt, excluded.cause,
     excluded.cause_type, excluded.actor, excluded.reason, excluded.irregular)
WHERE old.root_pipeline_id <= excluded.root_pipeline_id
  AND (old.root_pipeline_id, old.from_state, old.state, old.entered_at, old.left_at, old.version,
       old.loop, old.attempt, old.cause, old.cause_type, old.actor, old.reason, old.irregular)
    IS DISTINCT FROM
      (excluded.root_pipeline_id, excluded.from_state, excluded.state, excluded.entered_at,
       excluded.left_at, excluded.version, excluded.loop, excluded.attempt, excluded.cause,
       excluded.cause_type, excluded.actor, excluded.reason, excluded.irregular)

-- begun_runs --
-- The runs that were begun since a moment, by their first event.
SELECT DISTINCT root_pipeline_id
FROM bamboo_audit_pipelineeventrecord
WHERE event_type = 'pre_prepare_run_pipeline' AND occurred_at >= %(since)s
  AND root_pipeline_id <> ''

-- recording_began --
-- When the first record that the log still has was stored.
SELECT recorded_at FROM bamboo_audit_pipelineeventrecord ORDER BY id LIMIT 1

-- clear_runs --
-- Delete all rows of runs: the timelines begin anew.
DELETE FROM bamboo_audit_pipelinetimeline

-- clear_nodes --
-- Delete all rows of nodes.
DELETE FROM bamboo_audit_nodetimeline

-- clear_transitions --
-- Delete all transitions.
DELETE FROM bamboo_audit_statetransition

-- load_runs --
-- Rows of runs into a table that has none of them.
COPY bamboo_audit_pipelinetimeline FROM STDIN WITH (NULL '{null}')

-- load_nodes --
-- Rows of nodes into a table that has none of these runs.
COPY bamboo_audit_nodetimeline FROM STDIN WITH (NULL '{null}')

-- load_transitions --
-- Transitions into a table that has none of these runs.
COPY bamboo_audit_statetransition (
    node_id, ordinal, root_pipeline_id, from_state, state, entered_at, left_at, version, loop,
    attempt, cause, cause_type, actor, reason, irregular
) FROM STDIN WITH (NULL '{null}')

-- settle_nodes --
-- Where several runs have a row of the same node, keep the one that write_nodes would have kept.
WITH twice AS (
    SELECT node_id FROM bamboo_audit_nodetimeline GROUP BY node_id HAVING count(*) > 1
), ranked AS (
    SELECT old.ctid AS place, row_number() OVER (
        PARTITION BY node_id ORDER BY state <> '' DESC, last_position DESC, root_pipeline_id DESC
    ) AS rank
    FROM bamboo_audit_nodetimeline AS old
    WHERE node_id IN (SELECT node_id FROM twice)
)
DELETE FROM bamboo_audit_nodetimeline
WHERE ctid = ANY (ARRAY(SELECT place FROM ranked WHERE rank > 1))

-- settle_transitions --
-- The same of transitions.
WITH twice AS (
    SELECT node_id, ordinal FROM bamboo_audit_statetransition
    GROUP BY node_id, ordinal HAVING count(*) > 1
), ranked AS (
    SELECT old.ctid AS place, row_number() OVER (
        PARTITION BY node_id, ordinal ORDER BY root_pipeline_id DESC
    ) AS rank
    FROM bamboo_audit_statetransition AS old
    WHERE (node_id, ordinal) IN (SELECT node_id, ordinal FROM twice)
)
DELETE FROM bamboo_audit_statetransition
WHERE ctid = ANY (ARRAY(SELECT place FROM ranked WHERE rank > 1))

-- key_runs --
-- After a load; whoever is here a second time finds it.
CREATE UNIQUE INDEX IF NOT EXISTS loaded_runs ON bamboo_audit_pipelinetimeline (root_pipeline_id)

-- key_nodes --
-- The same for nodes.
CREATE UNIQUE INDEX IF NOT EXISTS loaded_nodes ON bamboo_audit_nodetimeline (node_id)

-- find_loaded_nodes --
-- By this write_nodes finds those of a run.
CREATE INDEX IF NOT EXISTS loaded_nodes_of_run ON bamboo_audit_nodetimeline (root_pipeline_id)

-- key_transitions --
-- The same for transitions.
CREATE UNIQUE INDEX IF NOT EXISTS loaded_transitions
ON bamboo_audit_statetransition (node_id, ordinal)

-- find_loaded_transitions --
-- By this write_transitions finds those of a run.
CREATE INDEX IF NOT EXISTS loaded_transitions_of_run
ON bamboo_audit_statetransition (root_pipeline_id)
