-- The writers of the spool, and how far each one's records are in the log.

CREATE TABLE {schema}.bamboo_audit_spoolwriter (
    writer_id uuid PRIMARY KEY,
    host text NOT NULL DEFAULT '',
    pid integer NOT NULL DEFAULT 0,
    kind text NOT NULL DEFAULT '',
    spool text NOT NULL DEFAULT '',
    started_at timestamptz,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Every record up to this one is in the log, or told by a gap and counted in missing.
    position bigint NOT NULL DEFAULT 0 CHECK (position >= 0),
    missing bigint NOT NULL DEFAULT 0 CHECK (missing >= 0),
    last_at timestamptz,
    -- '': goes on. closed: said its last word. died: killed, and its spool was read to the end.
    -- lost: fell silent, and so did its spool; nobody knows what it had left.
    ended text NOT NULL DEFAULT '' CHECK (ended IN ('', 'closed', 'died', 'lost')),
    ended_at timestamptz
)
-- Heartbeats update it all the time: room on the page keeps those from growing the table.
WITH (fillfactor = 50);

COMMENT ON TABLE {schema}.bamboo_audit_spoolwriter IS
    'bamboo-audit: the processes that capture, and how far their records are in the log';

-- Held, shared, by every transaction that appends, from before its first position is drawn: a
-- reader that waits for those who hold it knows that every position below is decided.
CREATE FUNCTION {schema}.bamboo_audit_announce_append() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock_shared((7305::bigint << 32) | {table_text}::regclass::oid::bigint);
$$;

-- Move writers from where the shipper knows them to be to where its batch takes them, in the
-- transaction that appends the batch. Another shipper, an answer to COMMIT that was lost, or a
-- database that was restored to an earlier time: then a writer is elsewhere, and nothing is sent.
CREATE FUNCTION {schema}.bamboo_audit_advance(
    writers uuid[], expected bigint[], reached bigint[], missed bigint[], latest timestamptz[]
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moved integer;
BEGIN
    PERFORM {schema}.bamboo_audit_announce_append();
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE {schema}.bamboo_audit_spoolwriter AS w
    SET position = step.reached,
        missing = w.missing + step.missed,
        last_at = greatest(w.last_at, step.latest),
        seen_at = clock_timestamp(),
        ended = '',
        ended_at = NULL
    FROM unnest(writers, expected, reached, missed, latest)
        AS step (writer_id, expected, reached, missed, latest)
    WHERE w.writer_id = step.writer_id AND w.position = step.expected;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> cardinality(writers) THEN
        RAISE EXCEPTION 'bamboo-audit: % of % writers are not where they were expected',
            cardinality(writers) - moved, cardinality(writers)
            USING ERRCODE = 'BA001';
    END IF;
END
$$;

-- Why jsonb does not take a text; NULL where it does.
CREATE FUNCTION {schema}.bamboo_audit_refusal(document text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM document::jsonb;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN format('%s (%s)', SQLERRM, SQLSTATE);
END
$$;

REVOKE ALL ON FUNCTION {schema}.bamboo_audit_announce_append() FROM PUBLIC;
REVOKE ALL ON FUNCTION
    {schema}.bamboo_audit_advance(uuid[], bigint[], bigint[], bigint[], timestamptz[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION {schema}.bamboo_audit_refusal(text) FROM PUBLIC;
