//! The harness itself: every outcome the protocol knows, asked for on purpose.

use anyhow::{Result, ensure};
use rand::RngCore;
use serde_json::json;

use super::reference::{Died, Refusal};
use super::{Row, Session};

pub(super) const ROWS: &[Row] = &[Row {
    name: "outcomes",
    about: "answers, errors, panics and the end of the process arrive as what they are",
    run: outcomes,
}];

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
