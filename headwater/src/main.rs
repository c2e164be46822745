//! See, verify, salvage, shrink and fill a Prometheus write-ahead log.

fn main() {}
