//! The harness itself: every outcome the protocol knows, asked for on purpose.

use anyhow::{Result, ensure};
use benches::workload::{Values, Workload};
use rand::{Rng, RngCore};
use serde_json::json;

use super::reference::{Died, Refusal};
use super::{Row, Session};
use crate::bench::arguments;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "outcomes",
        about: "answers, errors, panics and the end of the process arrive as what they are",
        run: outcomes,
    },
    Row { name: "workloads", about: "both sides make the benchmarks' data alike, to the bit", run: workloads },
];

/// What this harness was built against; go.mod says it too, and a change of one alone is a mistake.
const VERSION: &str = "v0.314.0";

fn outcomes(session: &mut Session) -> Result<()> {
    let mut reference = session.reference()?;
    let hello = reference.call("hello", json!({}), b"")?;
    ensure!(hello.str("prometheus")? == VERSION, "linked {} instead of {VERSION}", hello.str("prometheus")?);

    let mut rng = session.rng();
    for length in [0, 1, 65_535, 65_536, 3_000_000] {
        let mut sent = vec![0; length];
        rng.fill_bytes(&mut sent);
        let back = reference.call("echo", json!({}), &sent)?;
        ensure!(back.payload == sent, "{length} bytes came back changed");
    }

    let refusal = reference.ask("fail", json!({}), b"x")?.expect_err("asked to fail");
    ensure!(!refusal.panic && refusal.error == "asked to fail", "{refusal:?}");
    let refusal = reference.ask("panic", json!({}), b"")?.expect_err("asked to panic");
    ensure!(refusal.panic && refusal.error.contains("slice bounds out of range"), "{refusal:?}");
    let refusal = reference.ask("no.such", json!({}), b"")?.expect_err("no such operation");
    ensure!(!refusal.panic && refusal.op == "no.such", "{refusal:?}");
    // It goes on after all of them, and its end is told from a refusal.
    ensure!(reference.call("echo", json!({}), b"still there")?.payload == b"still there");
    let error = reference.call("exit", json!({}), b"").expect_err("asked to exit");
    ensure!(error.downcast_ref::<Refusal>().is_none(), "{error:?}");
    ensure!(error.downcast_ref::<Died>().is_some_and(|died| died.status.code() == Some(3)), "{error:?}");
    Ok(())
}

/// The benchmarks' data, made by both sides. Had they different data, a ratio would mean nothing.
fn workloads(session: &mut Session) -> Result<()> {
    let mut reference = session.reference()?;
    let mut rng = session.rng();
    for values in [Values::Counter, Values::Gauge, Values::Trivial] {
        for churn in [0, 7, 20] {
            let workload = Workload {
                series: rng.random_range(1..3000),
                scrapes: rng.random_range(1..300),
                interval: 15_000,
                start: 1_700_000_000_000,
                values,
                churn,
                seed: rng.next_u64() >> 11,
            };
            let theirs = reference.call("workload.digest", arguments(&workload), b"")?;
            let ours = format!("{:016x}", workload.digest());
            ensure!(theirs.str("digest")? == ours, "{workload:?}: {} against {ours}", theirs.str("digest")?);
        }
    }
    Ok(())
}
