//! Shrinks a Prometheus write-ahead log: filtered rewrite of old segments, published atomically.
