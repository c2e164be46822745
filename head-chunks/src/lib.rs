//! Prometheus chunk encodings and memory-mapped head chunk files.
