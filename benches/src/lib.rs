//! One criterion target per layer, and the side-by-side run against Prometheus.
