DROP TABLE IF EXISTS {schema}.bamboo_audit_pipelineeventrecord;
DROP FUNCTION IF EXISTS {schema}.bamboo_audit_create_partitions(bigint, integer);
DROP FUNCTION IF EXISTS {schema}.bamboo_audit_refuse_change();
