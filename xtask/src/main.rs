//! cargo xtask: one place that drives everything.

fn main() {}
