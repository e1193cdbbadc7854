"""integration-audit: integration-change events from Kafka become the documented audit log in PostgreSQL."""

__version__ = "0.1.0"
