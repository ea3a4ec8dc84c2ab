DROP TABLE {schema}.bamboo_audit_pipelineeventrecord;
DROP FUNCTION {schema}.bamboo_audit_create_partitions(bigint, integer);
DROP FUNCTION {schema}.bamboo_audit_refuse_change();
