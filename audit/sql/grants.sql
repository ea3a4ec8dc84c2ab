-- Two roles: the owner may change the log's guards; the application, which is what the host's
-- processes connect as, may insert and read. Run as a superuser.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {owner_text}) THEN
        CREATE ROLE {owner} NOLOGIN;
    END IF;
END
$$;

-- The owner's function makes partitions in this schema.
GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner};
ALTER TABLE {schema}.bamboo_audit_pipelineeventrecord OWNER TO {owner};
DO $$
DECLARE
    partition_name text;
BEGIN
    FOR partition_name IN
        SELECT inhrelid::regclass::text FROM pg_catalog.pg_inherits
        WHERE inhparent = {table_text}::regclass
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %s', partition_name, {owner_in_sql});
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, %s', partition_name, {application_in_sql});
    END LOOP;
END
$$;
ALTER FUNCTION {schema}.bamboo_audit_create_partitions(bigint, integer) OWNER TO {owner};
ALTER FUNCTION {schema}.bamboo_audit_refuse_change() OWNER TO {owner};

GRANT USAGE ON SCHEMA {schema} TO {application};
REVOKE ALL ON {schema}.bamboo_audit_pipelineeventrecord FROM PUBLIC, {application};
GRANT SELECT ON {schema}.bamboo_audit_pipelineeventrecord TO {application};
-- By column: not id, which COPY could set in spite of GENERATED ALWAYS, and not recorded_at,
-- which is the database's own word for when.
GRANT INSERT (
    writer_position, occurred_at, writer_id, event_type, root_pipeline_id, pipeline_id,
    node_id, node_version, data, context
) ON {schema}.bamboo_audit_pipelineeventrecord TO {application};
REVOKE ALL ON FUNCTION {schema}.bamboo_audit_create_partitions(bigint, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {schema}.bamboo_audit_create_partitions(bigint, integer)
    TO {application};

ALTER TABLE {schema}.bamboo_audit_spoolwriter OWNER TO {owner};
REVOKE ALL ON {schema}.bamboo_audit_spoolwriter FROM PUBLIC, {application};
-- Bookkeeping, not the log: its rows are moved on and pruned.
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.bamboo_audit_spoolwriter TO {application};
-- What is made of the log, and can be made again.
ALTER TABLE {schema}.bamboo_audit_pipelinetimeline OWNER TO {owner};
ALTER TABLE {schema}.bamboo_audit_nodetimeline OWNER TO {owner};
ALTER TABLE {schema}.bamboo_audit_statetransition OWNER TO {owner};
ALTER TABLE {schema}.bamboo_audit_projectioncheckpoint OWNER TO {owner};
ALTER TABLE {schema}.bamboo_audit_recordsetaside OWNER TO {owner};
REVOKE ALL ON
    {schema}.bamboo_audit_pipelinetimeline,
    {schema}.bamboo_audit_nodetimeline,
    {schema}.bamboo_audit_statetransition,
    {schema}.bamboo_audit_projectioncheckpoint,
    {schema}.bamboo_audit_recordsetaside
FROM PUBLIC, {application};
GRANT SELECT, INSERT, UPDATE, DELETE ON
    {schema}.bamboo_audit_pipelinetimeline,
    {schema}.bamboo_audit_nodetimeline,
    {schema}.bamboo_audit_statetransition,
    {schema}.bamboo_audit_projectioncheckpoint,
    {schema}.bamboo_audit_recordsetaside
TO {application};
ALTER FUNCTION {schema}.bamboo_audit_announce_append() OWNER TO {owner};
ALTER FUNCTION {schema}.bamboo_audit_advance(uuid[], bigint[], bigint[], bigint[], timestamptz[])
    OWNER TO {owner};
ALTER FUNCTION {schema}.bamboo_audit_refusal(text) OWNER TO {owner};
GRANT EXECUTE ON FUNCTION
    {schema}.bamboo_audit_announce_append(),
    {schema}.bamboo_audit_advance(uuid[], bigint[], bigint[], bigint[], timestamptz[]),
    {schema}.bamboo_audit_refusal(text)
TO {application};
-- Rebuilds make their tables here, and let go of them.
CREATE SCHEMA IF NOT EXISTS {next};
ALTER SCHEMA {next} OWNER TO {owner};
GRANT USAGE, CREATE ON SCHEMA {next} TO {application};
