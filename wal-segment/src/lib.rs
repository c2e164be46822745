//! The Prometheus write-ahead log on disk: pages, fragments, segments; writer, readers, tail, repair.
