//! The Prometheus head in Rust: series, label index, appenders, replay, truncation, queries.
