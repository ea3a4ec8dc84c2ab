DROP FUNCTION IF EXISTS
    {schema}.bamboo_audit_advance(uuid[], bigint[], bigint[], bigint[], timestamptz[]);
DROP FUNCTION IF EXISTS {schema}.bamboo_audit_refusal(text);
DROP FUNCTION IF EXISTS {schema}.bamboo_audit_announce_append();
DROP TABLE IF EXISTS {schema}.bamboo_audit_spoolwriter;
