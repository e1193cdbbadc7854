"""A seeded simulation of the worker between a model of Kafka and a model of PostgreSQL."""
