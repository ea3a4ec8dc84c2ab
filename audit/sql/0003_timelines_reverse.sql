DROP TABLE IF EXISTS {schema}.bamboo_audit_projectioncheckpoint;
DROP TABLE IF EXISTS {schema}.bamboo_audit_statetransition;
DROP TABLE IF EXISTS {schema}.bamboo_audit_nodetimeline;
DROP TABLE IF EXISTS {schema}.bamboo_audit_pipelinetimeline;
