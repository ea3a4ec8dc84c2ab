-- events_to_redeliver --
-- The next events after one position and up to another, by position: of some types, of a time
-- span (its end is not in it) and of some runs, where these are given. With the runs their
-- operations that were stored before anybody knew their run.
SELECT id, event_type, root_pipeline_id, data::text, context::text, occurred_at
FROM bamboo_audit_pipelineeventrecord
WHERE id > %(after)s AND id <= %(until)s
  AND event_type <> ALL (%(not_sent)s::text[])
  AND (%(types)s::text[] IS NULL OR event_type = ANY (%(types)s::text[]))
  AND (%(since)s::timestamptz IS NULL OR occurred_at >= %(since)s::timestamptz)
  AND (%(before)s::timestamptz IS NULL OR occurred_at < %(before)s::timestamptz)
  AND (
      %(roots)s::text[] IS NULL
      OR root_pipeline_id = ANY (%(roots)s::text[])
      OR root_pipeline_id = ''
         AND (node_id = ANY (%(nodes)s::text[]) OR pipeline_id = ANY (%(nodes)s::text[]))
  )
ORDER BY id
LIMIT %(most)s

-- span_of_runs --
-- The first and the last position of what some runs have. By their index, whatever the log's size:
-- asked for the minimum at once, the planner would rather walk through the positions.
WITH found AS MATERIALIZED (
    SELECT id FROM bamboo_audit_pipelineeventrecord
    WHERE root_pipeline_id = ANY (%(roots)s::text[])
    UNION ALL
    SELECT id FROM bamboo_audit_pipelineeventrecord
    WHERE root_pipeline_id = ''
      AND (node_id = ANY (%(nodes)s::text[]) OR pipeline_id = ANY (%(nodes)s::text[]))
)
SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM found

-- type_is_recorded --
-- Whether the log has an event of this type.
SELECT EXISTS (SELECT FROM bamboo_audit_pipelineeventrecord WHERE event_type = %(event_type)s)

-- add_redelivery --
-- Make a redelivery known, at its beginning; one that is known stays as it is.
INSERT INTO bamboo_audit_projectioncheckpoint (name, version, position)
VALUES (%(name)s, 0, 0)
ON CONFLICT (name) DO NOTHING
RETURNING position

-- take_redelivery --
-- Take a redelivery that nobody holds, or whose holder has shown no life for so long, and answer
-- how far it is; no row where somebody holds it. Its version is the holder's own number, 0 where
-- there is none.
UPDATE bamboo_audit_projectioncheckpoint
SET version = %(holder)s, updated_at = clock_timestamp(),
    position = CASE WHEN %(anew)s THEN 0 ELSE position END
WHERE name = %(name)s
  AND (version = 0 OR updated_at < clock_timestamp() - %(lease)s::interval)
RETURNING position

-- redelivery_held --
-- Who holds a redelivery, and when it last showed that it lives.
SELECT version, updated_at FROM bamboo_audit_projectioncheckpoint WHERE name = %(name)s

-- move_redelivery --
-- All up to a position has been delivered; no row where somebody else holds it by now.
UPDATE bamboo_audit_projectioncheckpoint
SET position = %(position)s, updated_at = clock_timestamp()
WHERE name = %(name)s AND version = %(holder)s
RETURNING position

-- renew_redelivery --
-- Its holder lives, and is still at the same event.
UPDATE bamboo_audit_projectioncheckpoint SET updated_at = clock_timestamp()
WHERE name = %(name)s AND version = %(holder)s
RETURNING position

-- release_redelivery --
-- Nobody holds it any more.
UPDATE bamboo_audit_projectioncheckpoint SET version = 0
WHERE name = %(name)s AND version = %(holder)s
RETURNING position
