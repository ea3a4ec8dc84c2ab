-- Rows as the engine makes them: 70 records a run, six a node, a few of them an operator's.
CREATE UNLOGGED TABLE source AS
SELECT g AS id,
       g AS writer_position,
       now() + g * interval '1 ms' AS occurred_at,
       now() AS recorded_at,
       gen_random_uuid() AS writer_id,
       (ARRAY['post_set_state', 'node_enter', 'pre_execute', 'post_execute', 'node_finish'])[g % 5 + 1]
           AS event_type,
       'p' || md5((g / 70)::text) AS root_pipeline_id,
       'p' || md5((g / 70)::text) AS pipeline_id,
       'n' || md5((g / 6)::text) AS node_id,
       '' AS node_version,
       '{"node_id": "n0123456789abcdef0123456789abcdef", "root_pipeline_id": "p0123"}'::jsonb AS data,
       CASE g % 70 WHEN 0 THEN '{"host": "web-1", "pid": 17, "actor": "alice", "reason": "disk"}'::jsonb
                   ELSE '{"host": "worker-1", "pid": 4711}'::jsonb END AS context
FROM generate_series(1, {rows}) AS g;
ANALYZE source
