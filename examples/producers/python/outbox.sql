-- The outbox: a table of the application's own database. An event is put here in the transaction that makes the change.
CREATE TABLE IF NOT EXISTS audit_outbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id uuid NOT NULL UNIQUE,
    key bytea NOT NULL,
    value bytea NOT NULL
);
