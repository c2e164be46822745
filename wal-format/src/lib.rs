//! Every record of the Prometheus write-ahead log, both directions, without a disk.
