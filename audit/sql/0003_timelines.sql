-- What the fold makes of the log. Nothing here is a source: all of it can be made again.

CREATE TABLE {schema}.bamboo_audit_pipelinetimeline (
    root_pipeline_id text PRIMARY KEY,
    name text NOT NULL,
    tags jsonb NOT NULL CHECK (jsonb_typeof(tags) = 'object'),
    state text NOT NULL,
    version text NOT NULL,
    actor text NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    expected_by timestamptz,
    nodes integer NOT NULL,
    failed_nodes integer NOT NULL,
    attempts integer NOT NULL,
    failures integer NOT NULL,
    retries integer NOT NULL,
    skips integer NOT NULL,
    interventions integer NOT NULL,
    paused interval NOT NULL,
    reasons jsonb NOT NULL CHECK (jsonb_typeof(reasons) = 'array'),
    actors text[] NOT NULL,
    writers text[] NOT NULL,
    first_position bigint NOT NULL,
    last_position bigint NOT NULL
)
WITH (fillfactor = 80);  -- a run's row is written anew while it goes on

COMMENT ON TABLE {schema}.bamboo_audit_pipelinetimeline IS
    'bamboo-audit: one row is one run, as the fold of its records has it';

-- Newest first, all or by state.
CREATE INDEX bamboo_audit_run_first ON {schema}.bamboo_audit_pipelinetimeline
    (first_at, root_pipeline_id);
CREATE INDEX bamboo_audit_run_state ON {schema}.bamboo_audit_pipelinetimeline (state, first_at);
CREATE INDEX bamboo_audit_run_started ON {schema}.bamboo_audit_pipelinetimeline (started_at);
-- What somebody looks for, out of many runs of which most were well.
CREATE INDEX bamboo_audit_run_failed ON {schema}.bamboo_audit_pipelinetimeline
    (first_at) WHERE failed_nodes > 0;
CREATE INDEX bamboo_audit_run_failures ON {schema}.bamboo_audit_pipelinetimeline
    (first_at) WHERE failures > 0;
CREATE INDEX bamboo_audit_run_retries ON {schema}.bamboo_audit_pipelinetimeline
    (first_at) WHERE retries > 0;
CREATE INDEX bamboo_audit_run_skips ON {schema}.bamboo_audit_pipelinetimeline
    (first_at) WHERE skips > 0;
CREATE INDEX bamboo_audit_run_interventions ON {schema}.bamboo_audit_pipelinetimeline
    (first_at) WHERE interventions > 0;
CREATE INDEX bamboo_audit_run_incomplete ON {schema}.bamboo_audit_pipelinetimeline
    (first_at) WHERE reasons <> '[]';
CREATE INDEX bamboo_audit_run_expected ON {schema}.bamboo_audit_pipelinetimeline
    (expected_by) WHERE expected_by IS NOT NULL;
CREATE INDEX bamboo_audit_run_waiting ON {schema}.bamboo_audit_pipelinetimeline
    (first_at) WHERE expected_by IS NULL AND state NOT IN ('FINISHED', 'REVOKED');
CREATE INDEX bamboo_audit_run_duration ON {schema}.bamboo_audit_pipelinetimeline
    ((finished_at - started_at)) WHERE finished_at IS NOT NULL;
CREATE INDEX bamboo_audit_run_tags ON {schema}.bamboo_audit_pipelinetimeline
    USING gin (tags jsonb_path_ops);
CREATE INDEX bamboo_audit_run_actors ON {schema}.bamboo_audit_pipelinetimeline USING gin (actors);
-- Which runs does a gap of this process concern?
CREATE INDEX bamboo_audit_run_writers ON {schema}.bamboo_audit_pipelinetimeline USING gin (writers);

CREATE TABLE {schema}.bamboo_audit_nodetimeline (
    node_id text PRIMARY KEY,
    root_pipeline_id text NOT NULL,
    parent_id text NOT NULL,
    name text NOT NULL,
    node_type text NOT NULL,
    component_code text NOT NULL,
    template_node_id text NOT NULL,
    state text NOT NULL,
    version text NOT NULL,
    loop integer NOT NULL,
    retry integer NOT NULL,
    skip boolean NOT NULL,
    error_ignored boolean NOT NULL,
    attempts integer NOT NULL,
    failures integer NOT NULL,
    interventions integer NOT NULL,
    actors text[] NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    running interval NOT NULL,
    last_error text NOT NULL,
    last_position bigint NOT NULL
)
WITH (fillfactor = 80);

COMMENT ON TABLE {schema}.bamboo_audit_nodetimeline IS
    'bamboo-audit: one row is one node of a run, as the fold of its records has it';

CREATE INDEX bamboo_audit_node_run ON {schema}.bamboo_audit_nodetimeline (root_pipeline_id);
CREATE INDEX bamboo_audit_node_started ON {schema}.bamboo_audit_nodetimeline (started_at, node_id);
CREATE INDEX bamboo_audit_node_state ON {schema}.bamboo_audit_nodetimeline (state, started_at);
CREATE INDEX bamboo_audit_node_component ON {schema}.bamboo_audit_nodetimeline
    (component_code, started_at) WHERE component_code <> '';
CREATE INDEX bamboo_audit_node_failures ON {schema}.bamboo_audit_nodetimeline
    (started_at) WHERE failures > 0;
CREATE INDEX bamboo_audit_node_retried ON {schema}.bamboo_audit_nodetimeline
    (started_at) WHERE retry > 0;
CREATE INDEX bamboo_audit_node_skipped ON {schema}.bamboo_audit_nodetimeline
    (started_at) WHERE skip;
CREATE INDEX bamboo_audit_node_ignored ON {schema}.bamboo_audit_nodetimeline
    (started_at) WHERE error_ignored;
CREATE INDEX bamboo_audit_node_interventions ON {schema}.bamboo_audit_nodetimeline
    (started_at) WHERE interventions > 0;
-- Which nodes did this person do something to?
CREATE INDEX bamboo_audit_node_actors ON {schema}.bamboo_audit_nodetimeline USING gin (actors);
CREATE INDEX bamboo_audit_node_running ON {schema}.bamboo_audit_nodetimeline (running);

CREATE TABLE {schema}.bamboo_audit_statetransition (
    node_id text NOT NULL,
    ordinal integer NOT NULL,
    root_pipeline_id text NOT NULL,
    from_state text NOT NULL,
    state text NOT NULL,
    entered_at timestamptz NOT NULL,
    left_at timestamptz,
    version text NOT NULL,
    loop integer NOT NULL,
    attempt integer NOT NULL,
    cause bigint NOT NULL,
    cause_type text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    irregular boolean NOT NULL,
    -- One column for who needs one; the key itself is that of a node's timeline.
    id text GENERATED ALWAYS AS (node_id || '/' || ordinal::text) STORED,
    PRIMARY KEY (node_id, ordinal)
);

COMMENT ON TABLE {schema}.bamboo_audit_statetransition IS
    'bamboo-audit: one row is one interval of a node''s or run''s timeline';

CREATE INDEX bamboo_audit_transition_run ON {schema}.bamboo_audit_statetransition
    (root_pipeline_id, entered_at);
CREATE INDEX bamboo_audit_transition_time ON {schema}.bamboo_audit_statetransition
    (entered_at, id);

CREATE TABLE {schema}.bamboo_audit_projectioncheckpoint (
    name text PRIMARY KEY,
    version integer NOT NULL,
    position bigint NOT NULL CHECK (position >= 0),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE {schema}.bamboo_audit_projectioncheckpoint IS
    'bamboo-audit: up to which position each projection has applied the log';
