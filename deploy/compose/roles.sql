-- Runs once, as the superuser, when the volume is new. The owner migrates; the worker only writes, as `audit_writer` may.
\set ON_ERROR_STOP on
\set owner_password `cat /run/secrets/owner-password`
\set worker_password `cat /run/secrets/worker-password`

CREATE ROLE integration_audit_owner LOGIN CREATEROLE PASSWORD :'owner_password';
CREATE ROLE integration_audit_worker LOGIN PASSWORD :'worker_password';
-- `migrate` gives it its rights and would make it too; it is here first so that the worker can be a member from the start.
CREATE ROLE audit_writer NOLOGIN;
GRANT audit_writer TO integration_audit_worker;

CREATE DATABASE audit OWNER integration_audit_owner;
REVOKE CONNECT, TEMPORARY ON DATABASE audit FROM PUBLIC;
GRANT CONNECT ON DATABASE audit TO audit_writer;
