//! Prometheus text and OpenMetrics exposition format parser.
