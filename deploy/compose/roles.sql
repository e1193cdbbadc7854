-- Runs once, as the superuser, when the volume is new. The owner migrates; the worker only writes, as `audit_writer` may;
-- the operator reads everything, exports it, settles the quarantine and sets positions.
\set ON_ERROR_STOP on
\set owner_password `cat /run/secrets/owner-password`
\set worker_password `cat /run/secrets/worker-password`
\set operator_password `cat /run/secrets/operator-password`

CREATE ROLE integration_audit_owner LOGIN CREATEROLE PASSWORD :'owner_password';
CREATE ROLE integration_audit_worker LOGIN PASSWORD :'worker_password';
CREATE ROLE integration_audit_operator LOGIN PASSWORD :'operator_password';
-- `migrate` gives them their rights and would make them too; they are here first so that there are members from the start.
CREATE ROLE audit_writer NOLOGIN;
CREATE ROLE audit_reader NOLOGIN;
CREATE ROLE audit_operator NOLOGIN;
GRANT audit_writer TO integration_audit_worker;
GRANT audit_reader, audit_operator TO integration_audit_operator;

CREATE DATABASE audit OWNER integration_audit_owner;
REVOKE CONNECT, TEMPORARY ON DATABASE audit FROM PUBLIC;
GRANT CONNECT ON DATABASE audit TO audit_writer, audit_operator;
