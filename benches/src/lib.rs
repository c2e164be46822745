//! One criterion target per layer, and the data that both sides of a comparison with Prometheus work on.

pub mod chunks;

pub mod histograms;

/// The seeded workloads. The file is the program's (`headwater bench ingest` makes the same data), and it cannot be a
/// library of its own: nobody but benchmarks wants it.
#[path = "../../headwater/src/workload.rs"]
pub mod workload;

pub mod records;
