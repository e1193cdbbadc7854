-- Rights that no operator needs.
-- Runs as audit_owner, so every object is its own.

-- What waits behind a lock of a running worker gives up instead of stopping it.
SET LOCAL lock_timeout = '30s';
SET LOCAL statement_timeout = '5min';

-- ---------------------------------------------------------------- rights

-- An operator moves a position by audit.set_position, which tells it, and by nothing else.
REVOKE INSERT, UPDATE ON audit.consumer_position FROM audit_operator;
REVOKE INSERT ON audit.source_gap FROM audit_operator;
