-- What a projection could not apply, so that it went on without.

CREATE TABLE {schema}.bamboo_audit_recordsetaside (
    projection text NOT NULL,
    position bigint NOT NULL,
    root_pipeline_id text NOT NULL,
    -- Whether its whole run could not be folded; otherwise it is this record alone.
    whole_run boolean NOT NULL,
    error text NOT NULL,
    set_aside_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- One column for who needs one; the key itself is the three together.
    id text GENERATED ALWAYS AS (
        projection || '/' || position::text || '/' || root_pipeline_id
    ) STORED,
    -- One gap may concern many runs.
    PRIMARY KEY (projection, position, root_pipeline_id)
);

COMMENT ON TABLE {schema}.bamboo_audit_recordsetaside IS
    'bamboo-audit: records that a projection could not apply, each with the error';
