-- The log, in the schema that the migration runs in. Everything is named with it, because the
-- functions below run with a search_path of their own.

CREATE TABLE {schema}.bamboo_audit_pipelineeventrecord (
    -- Identity, so that a role that may insert needs no right on the sequence and cannot burn
    -- positions. CACHE 1: with a larger cache a session hands out positions that others have
    -- passed, and a reader that follows them would skip records.
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    writer_position bigint NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    writer_id uuid NOT NULL,
    event_type text NOT NULL,
    root_pipeline_id text NOT NULL DEFAULT '',
    pipeline_id text NOT NULL DEFAULT '',
    node_id text NOT NULL DEFAULT '',
    node_version text NOT NULL DEFAULT '',
    data jsonb NOT NULL,
    context jsonb NOT NULL DEFAULT '{{}}',
    -- What readers rely on: a row that cannot be changed must not be one that breaks a page.
    CHECK (jsonb_typeof(context) = 'object'),
    CHECK (isfinite(occurred_at))
) PARTITION BY RANGE (id);

COMMENT ON TABLE {schema}.bamboo_audit_pipelineeventrecord IS
    'bamboo-audit: every event of bamboo-pipeline, one row each, never changed';

-- lz4 where the server was built with it, because pipeline trees are large.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_catalog.pg_settings
        WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)
    ) THEN
        ALTER TABLE {schema}.bamboo_audit_pipelineeventrecord
            ALTER COLUMN data SET COMPRESSION lz4,
            ALTER COLUMN context SET COMPRESSION lz4;
    END IF;
END
$$;

-- Each index is paid for by every insert; these are the questions that need one.
-- What happened in this run, in order?
CREATE INDEX bamboo_audit_record_run ON {schema}.bamboo_audit_pipelineeventrecord
    (root_pipeline_id, occurred_at);
-- What happened to this node? Also finds the run of a node.
CREATE INDEX bamboo_audit_record_node ON {schema}.bamboo_audit_pipelineeventrecord
    (node_id, occurred_at);
-- Which events of this type were there, newest first?
CREATE INDEX bamboo_audit_record_type ON {schema}.bamboo_audit_pipelineeventrecord
    (event_type, occurred_at);
-- What happened between these two instants, newest first?
CREATE INDEX bamboo_audit_record_time ON {schema}.bamboo_audit_pipelineeventrecord
    (occurred_at, id);
-- What did this person do? Holds only records with an actor of their own: operations.
CREATE INDEX bamboo_audit_record_actor ON {schema}.bamboo_audit_pipelineeventrecord
    ((context ->> 'actor'), occurred_at) WHERE context ? 'actor';
-- Which operations on a node or pipeline were stored before their run was known? Almost empty.
CREATE INDEX bamboo_audit_record_rootless_node ON {schema}.bamboo_audit_pipelineeventrecord
    (node_id) WHERE root_pipeline_id = '';
CREATE INDEX bamboo_audit_record_rootless_pipeline ON {schema}.bamboo_audit_pipelineeventrecord
    (pipeline_id) WHERE root_pipeline_id = '';

CREATE FUNCTION {schema}.bamboo_audit_refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'bamboo-audit: % on % is refused: the log only grows', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation',
              HINT = 'Records are never changed. What is wrong in one is told by a later one.';
END
$$;

-- A row trigger on the parent is cloned to every partition, present and future. ALWAYS, because
-- session_replication_role = replica silences ordinary triggers.
CREATE TRIGGER bamboo_audit_no_change BEFORE UPDATE OR DELETE
    ON {schema}.bamboo_audit_pipelineeventrecord
    FOR EACH ROW EXECUTE FUNCTION {schema}.bamboo_audit_refuse_change();
ALTER TABLE {schema}.bamboo_audit_pipelineeventrecord
    ENABLE ALWAYS TRIGGER bamboo_audit_no_change;

-- TRUNCATE fires statement triggers only, and those of the table that is named only: each
-- partition gets its own when it is made.
CREATE TRIGGER bamboo_audit_no_truncate BEFORE TRUNCATE
    ON {schema}.bamboo_audit_pipelineeventrecord
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.bamboo_audit_refuse_change();
ALTER TABLE {schema}.bamboo_audit_pipelineeventrecord
    ENABLE ALWAYS TRIGGER bamboo_audit_no_truncate;

-- Make partitions until `ahead` of them are empty and above the newest position. Returns the
-- names of the new ones: `ahead` and one for the newest position itself at most, wherever the
-- positions have got to. Runs as the owner, so that the application's role needs no right to
-- create tables; callers are serialised. CREATE TABLE ... PARTITION OF would wait for every open
-- writer, and all later inserts would queue behind it; LIKE and ATTACH wait for none.
CREATE FUNCTION {schema}.bamboo_audit_create_partitions(size bigint, ahead integer)
RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $$
DECLARE
    parent constant regclass := {table_text}::regclass;
    newest bigint;
    upper_bound bigint;
    spare integer;
    ordinal bigint;
    partition_name text;
BEGIN
    IF size NOT BETWEEN 1000 AND 1000000000 OR ahead NOT BETWEEN 1 AND 100 THEN
        RAISE EXCEPTION 'bamboo-audit: size % or ahead % is out of range', size, ahead
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'size: 1,000 to 1,000,000,000 positions; ahead: 1 to 100 partitions.';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('bamboo_audit_partitions', parent::oid::bigint));

    -- Before the first record: 1, whose partition is in use, not spare.
    newest := coalesce(
        pg_sequence_last_value(pg_get_serial_sequence(parent::text, 'id')::regclass), 1
    );

    LOOP
        SELECT greatest(max(b.high), (newest - 1) / size * size + 1),
               count(*) FILTER (WHERE b.low > newest)
        INTO upper_bound, spare
        FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid
        CROSS JOIN LATERAL (
            SELECT m[1]::bigint AS low, m[2]::bigint AS high
            FROM regexp_match(
                pg_get_expr(c.relpartbound, c.oid), $re$FROM \('(\d+)'\) TO \('(\d+)'\)$re$
            ) AS m
        ) b
        WHERE i.inhparent = parent;
        EXIT WHEN spare >= ahead;

        SELECT coalesce(max(substring(c.relname FROM '_p(\d{{1,15}})$')::bigint), 0) INTO ordinal
        FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = parent;
        LOOP
            ordinal := ordinal + 1;
            partition_name := format(
                '%s.bamboo_audit_pipelineeventrecord_p%s', {schema_text},
                lpad(ordinal::text, greatest(6, length(ordinal::text)), '0')
            );
            -- A partition that was detached, or whatever else has that name, keeps it.
            EXIT WHEN to_regclass(partition_name) IS NULL;
        END LOOP;
        EXECUTE format(
            'CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS '
            'INCLUDING STORAGE INCLUDING COMPRESSION)',
            partition_name, parent
        );
        EXECUTE format(
            'CREATE TRIGGER bamboo_audit_no_truncate BEFORE TRUNCATE ON %s '
            'FOR EACH STATEMENT EXECUTE FUNCTION %s.bamboo_audit_refuse_change()',
            partition_name, {schema_text}
        );
        EXECUTE format(
            'ALTER TABLE %s ENABLE ALWAYS TRIGGER bamboo_audit_no_truncate', partition_name
        );
        EXECUTE format(
            'ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)',
            parent, partition_name, upper_bound, upper_bound + size
        );
        RETURN NEXT partition_name;
    END LOOP;
END
$$;

-- Functions are executable by everyone unless it is taken away.
REVOKE ALL ON FUNCTION {schema}.bamboo_audit_create_partitions(bigint, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION {schema}.bamboo_audit_refuse_change() FROM PUBLIC;
