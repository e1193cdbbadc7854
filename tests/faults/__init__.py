"""The twenty faults of the behaviour document, a test each at least, on a real Kafka and a real PostgreSQL.

| fault | module | fault | module |
| --- | --- | --- | --- |
| 1, 3, 4 | `test_client` | 2 | `test_shutdown` |
| 5, 10, 11, 19 | `test_kafka` | 6, 12, 13 | `test_database`, `test_server` |
| 7, 8, 9, 20 | `test_group` | 13, 14 | `test_kill` |
| 15, 16, 17 | `test_messages` | 18 | `test_registry` |

Which test catches which break of the worker: `tests/mutations.py`, and `make mutations` tries them.
"""
