//! Prometheus TSDB data model: labels, histograms, staleness, varints; no I/O, no_std + alloc.
