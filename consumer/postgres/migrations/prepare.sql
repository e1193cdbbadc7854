-- Roles and schema: what must be there before Alembic can keep its books as audit_owner.
-- Runs before every upgrade, so each step bears that its work is done already.

SET LOCAL lock_timeout = '30s';
SET LOCAL statement_timeout = '5min';

-- Roles belong to the cluster and the lock of a migration to one database: migrations of two databases may meet here.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['audit_owner', 'audit_writer', 'audit_reader', 'audit_operator', 'audit_retention'] LOOP
        IF to_regrole(wanted) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN
                    NULL; -- another migration was faster
            END;
        END IF;
    END LOOP;
END
$$;

-- A superuser may become audit_owner anyway; an owner of the database with CREATEROLE must first be a member.
-- Tried and not asked: what pg_has_role must be asked differs between PostgreSQL 15 and 16.
DO $$
BEGIN
    SET LOCAL ROLE audit_owner;
    RESET ROLE;
EXCEPTION
    WHEN insufficient_privilege THEN
        BEGIN
            EXECUTE 'GRANT audit_owner TO CURRENT_USER';
        EXCEPTION
            WHEN unique_violation THEN
                NULL; -- another migration by the same role was faster
            WHEN insufficient_privilege THEN
                -- The remedy is in the message: that is all that leaves the program, since details could hold values.
                RAISE EXCEPTION 'role % may not become audit_owner; let an administrator run: GRANT audit_owner TO %',
                    current_user, quote_ident(current_user)
                    USING ERRCODE = 'insufficient_privilege';
        END;
END
$$;

CREATE SCHEMA IF NOT EXISTS audit AUTHORIZATION audit_owner;
