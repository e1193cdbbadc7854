-- The history of the quarantine: who did what with a message, and what came of it. And the guard of what is quarantined.
-- Runs as audit_owner, so every object is its own.

-- What waits behind a lock of a running worker gives up instead of stopping it.
SET LOCAL lock_timeout = '30s';
SET LOCAL statement_timeout = '5min';

-- ---------------------------------------------------------------- the history

CREATE TABLE audit.quarantine_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    quarantine_id bigint NOT NULL REFERENCES audit.quarantine (id),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    database_role text NOT NULL DEFAULT session_user,
    who text NOT NULL,
    action text NOT NULL CONSTRAINT quarantine_history_action_check CHECK (action IN ('retried', 'retry failed', 'discarded')),
    outcome text,
    note text,
    -- A closed list for each action; why a message was discarded must be said.
    CONSTRAINT quarantine_history_outcome_check CHECK (
        CASE action
            WHEN 'retried' THEN outcome IS NOT NULL AND outcome IN ('written', 'duplicate')
            WHEN 'retry failed' THEN outcome IS NOT NULL AND outcome IN (
                'undecodable', 'unknown schema', 'unmapped change', 'invalid event', 'out of range', 'conflict', 'unstorable', 'oversized'
            )
            ELSE outcome IS NULL AND note ~ '\S'
        END
    )
);

CREATE INDEX quarantine_history_quarantine_id_idx ON audit.quarantine_history (quarantine_id);

COMMENT ON TABLE audit.quarantine_history IS
    'What was done with quarantined messages. It only grows: UPDATE, DELETE and TRUNCATE are refused to everybody.';
COMMENT ON COLUMN audit.quarantine_history.database_role IS 'The role that logged in to the database, as PostgreSQL knows it.';
COMMENT ON COLUMN audit.quarantine_history.who IS 'The person, as the command was told: --by, else the user of the operating system.';
COMMENT ON COLUMN audit.quarantine_history.outcome IS 'Of a retry: written, duplicate, or the reason for which the message still fails.';
COMMENT ON COLUMN audit.quarantine_history.note IS 'Why it was discarded; or the error of the retry, without values of the event.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.quarantine_history
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.quarantine_history ENABLE ALWAYS TRIGGER append_only;

-- ---------------------------------------------------------------- the quarantine keeps what it holds

-- An open message may be settled, once, with who and when; everything else about it stays, for everybody.
CREATE FUNCTION audit.guard_quarantined() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unsettled audit.quarantine%ROWTYPE := NEW;
BEGIN
    unsettled.status := OLD.status;
    unsettled.resolved_at := OLD.resolved_at;
    unsettled.resolved_by := OLD.resolved_by;
    IF unsettled IS DISTINCT FROM OLD THEN
        RAISE EXCEPTION 'UPDATE on %.% is refused to everybody: of a quarantined message only status, resolved_at and resolved_by may change',
            TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF OLD.status <> 'open' OR NEW.status = 'open' OR NEW.resolved_at IS NULL OR NEW.resolved_by IS NULL THEN
        RAISE EXCEPTION 'UPDATE on %.% is refused to everybody: an open message is settled once, with resolved_at and resolved_by',
            TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER guard_quarantined BEFORE UPDATE ON audit.quarantine
    FOR EACH ROW EXECUTE FUNCTION audit.guard_quarantined();
ALTER TABLE audit.quarantine ENABLE ALWAYS TRIGGER guard_quarantined;

CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON audit.quarantine
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.quarantine ENABLE ALWAYS TRIGGER append_only;

-- ---------------------------------------------------------------- rights

REVOKE ALL ON FUNCTION audit.guard_quarantined() FROM PUBLIC;

-- Not `at` and not `database_role`: those PostgreSQL fills in, so that nobody can say them otherwise.
GRANT INSERT (quarantine_id, who, action, outcome, note) ON audit.quarantine_history TO audit_operator;
GRANT SELECT ON audit.quarantine_history TO audit_reader, audit_operator;
