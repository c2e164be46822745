//! The Prometheus head in Rust: series, label index, appenders, replay, truncation, queries.

mod bounds;
mod index;
mod isolation;
