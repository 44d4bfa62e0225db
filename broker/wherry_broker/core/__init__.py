"""The brain of the broker: all semantics, deterministic and pure.

Nothing here waits, looks at a clock, draws a random number, logs, or touches a file or a socket: time is the argument
`now_ms` and randomness an argument too. Commands are *decided* into records; `evolve` makes the state from records,
live and in replay alike; what is said to the world are effects, held until the record they depend on is durable.

From the bottom up: `block` and `batch` (bytes, and the messages of one publish), `index`, `lane` and `timers` (order by
offset, by turn, by time), `queue` (one queue's messages), `records`, `state` and `evolve` (durable facts), `ledger`
(state, records and what waits for them), `consumers` (credit and leases, which no restart survives), `decide` (policy).
On these stand the parts that carry commands out: `publishing`, `settling`, `attendance` (consumers), `dispatch`,
`catalogue` (queues) and `lookups`; `shard` puts them together and is the seam to the rest.
"""
