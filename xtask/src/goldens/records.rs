//! Records of every tag, with what went in and what the reference reads out of each.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Golden;
use crate::interop::Reference;
use crate::interop::wire::WireReader;

pub(super) const GOLDENS: &[Golden] = &[Golden {
    path: "records",
    made_by: "tsdb/record's encoder on inputs chosen by hand (interop/records_golden.go): every tag, schema class, start \
              timestamp case, split, empty and wrapping case; records.json holds the inputs, the names of the records made \
              of each, and what its decoder reads out of them (floats as bits, texts as bytes, both in hexadecimal)",
    make,
}];

fn make(reference: &mut Reference, folder: &Path) -> Result<()> {
    let answer = reference.call("records.goldens", json!({}), b"")?;
    let mut reader = WireReader(&answer.payload);
    let mut cases = Vec::new();
    while reader.more() {
        let name = std::str::from_utf8(reader.item()?)?.to_owned();
        let mut case: Value = serde_json::from_slice(reader.item()?)?;
        let records = reader.u32()?;
        for n in 0..records {
            let file = if records == 1 { format!("{name}.bin") } else { format!("{name}.{n}.bin") };
            fs::write(folder.join(&file), reader.item()?)?;
            case["records"][n as usize]["file"] = json!(file);
        }
        cases.push(case);
    }
    ensure!(!cases.is_empty(), "the reference made no records");
    Ok(fs::write(folder.join("records.json"), serde_json::to_string_pretty(&cases)? + "\n")?)
}
