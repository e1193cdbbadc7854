"""The twenty faults of the behaviour document, a test each at least, on a real Kafka and a real PostgreSQL.

| fault | module | fault | module |
| --- | --- | --- | --- |
| 1, 3, 4 | `test_client` | 2 | `test_shutdown` |
| 5, 10, 11, 19 | `test_kafka` | 6, 12, 13 | `test_database`, `test_server` |
| 7, 8, 9, 20 | `test_group` | 13, 14 | `test_kill` |
| 15, 16, 17 | `test_messages` | 18 | `test_registry` |

Tried by hand, each caught by the test named first, and by others:

| what was broken | caught by |
| --- | --- |
| the offset commit comes before the write | `test_fault_06_database_down`, `test_fault_13_kill_nine_loses_and_doubles_nothing` |
| no fence | `test_fault_13_cut[COMMIT-after]` |
| no ledger | `test_fault_20_reverse_order` |
| a callback's error is swallowed | `test_fault_01_assign` |
| repositioned at `latest` | `test_fault_10_while_nobody_was_there` |
| a registry's outage is taken for a no | `test_fault_18_pauses_and_quarantines_nothing` |
| a 404 of anybody is the registry's | `test_an_unknown_guid_is_unknown_where_there_are_none` (in `tests/integration`) |
| the first 404 is believed | `test_fault_18_404_of_a_replica_that_lags` |
| no time-out for the registry | `test_fault_18_time_out` |
"""
