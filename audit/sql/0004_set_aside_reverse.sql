DROP TABLE IF EXISTS {schema}.bamboo_audit_recordsetaside;
