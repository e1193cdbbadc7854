-- The retention that the log was told, by workers too; rights that no operator needs.
-- Runs as audit_owner, so every object is its own.

-- What waits behind a lock of a running worker gives up instead of stopping it.
SET LOCAL lock_timeout = '30s';
SET LOCAL statement_timeout = '5min';

-- ---------------------------------------------------------------- the history

-- A worker tells it when it starts, since it decides what becomes `out of range`; a removal of months tells it before it begins.
CREATE FUNCTION audit.tell_retention(who text, retention text) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    former text;
    entry bigint;
BEGIN
    -- What is told must be read again: the removal compares with it. The longest retention is 10 years, as in ensure_month; in days, since
    -- an interval takes a year for 360 of them when it is compared.
    IF coalesce(retention !~ '^[1-9][0-9]{0,12}( days|s|ms)$', true) OR retention::interval > interval '3683 days' THEN
        RAISE EXCEPTION 'a retention is a number of days, s or ms, up to 10 years' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Workers start together: one tells it, and the others find it told.
    PERFORM pg_advisory_xact_lock(1635083369, 5);
    SELECT detail ->> 'to' INTO former FROM audit.operation_history WHERE action = 'retention changed' ORDER BY id DESC LIMIT 1;
    IF former = retention THEN
        RETURN NULL;
    END IF;
    INSERT INTO audit.operation_history (who, action, detail)
    VALUES (who, 'retention changed', jsonb_build_object('from', former, 'to', retention))
    RETURNING id INTO entry;
    RETURN entry;
END
$$;

COMMENT ON FUNCTION audit.tell_retention(text, text) IS
    'Tells the history of a retention that is not the last one told; the entry''s number, or null where it is.';
COMMENT ON COLUMN audit.operation_history.who IS
    'The person, as the command was told: --by, else the user of the operating system. `worker`: one that started.';

-- ---------------------------------------------------------------- rights

REVOKE ALL ON FUNCTION audit.tell_retention(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.tell_retention(text, text) TO audit_writer;

-- An operator moves a position by audit.set_position, which tells it, and by nothing else.
REVOKE INSERT, UPDATE ON audit.consumer_position FROM audit_operator;
REVOKE INSERT ON audit.source_gap FROM audit_operator;
