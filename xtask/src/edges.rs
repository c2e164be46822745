//! Who may depend on whom.
//!
//! Who wants a log gets no histograms, and who wants a chunk codec gets no log, as long as these are the only edges.
//! Dev-dependencies are free: tests may look at anything. The same check keeps the ban on `std::fs` above tsdb-vfs in
//! place: clippy enforces it, by a `clippy.toml` that every such crate must have unchanged.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::sh;

/// Every crate of the workspace and the crates of ours that it may depend on. `None`: any.
const ALLOWED: &[(&str, Option<&[&str]>)] = &[
    ("tsdb-model", Some(&[])),
    ("tsdb-vfs", Some(&[])),
    ("wal-format", Some(&["tsdb-model"])),
    ("wal-segment", Some(&["tsdb-vfs"])),
    ("head-chunks", Some(&["tsdb-model", "tsdb-vfs"])),
    ("wal-checkpoint", Some(&["tsdb-model", "tsdb-vfs", "wal-format", "wal-segment"])),
    ("exposition", Some(&["tsdb-model"])),
    ("tsdb-head", Some(&["tsdb-model", "tsdb-vfs", "wal-format", "wal-segment", "head-chunks", "wal-checkpoint"])),
    ("headwater", None),
    ("benches", None),
    ("xtask", None),
];

/// Where a dependency on them ends: nothing may be built on a program.
const TOPS: &[&str] = &["headwater", "xtask"];

/// Dependencies that only tests may have, and why.
const TESTS_ONLY: &[(&str, &str)] = &[
    ("crc32fast", "it computes the IEEE polynomial, and every checksum here is Castagnoli's"),
    ("integer-encoding", "the varints are ours; it is their oracle"),
];

/// Crates that speak to the file system themselves.
const BELOW_THE_SEAM: &[&str] = &["tsdb-vfs", "benches", "xtask"];

/// The ban, as every crate above the seam must have it.
pub(crate) const ABOVE_VFS: &str = "xtask/above-vfs.clippy.toml";

pub(crate) fn check() -> Result<()> {
    let metadata = metadata()?;
    let mut violations = edges(&metadata)?;
    violations.extend(bans(&sh::root(), &metadata)?);
    if violations.is_empty() { Ok(()) } else { bail!("\n  {}", violations.join("\n  ")) }
}

fn metadata() -> Result<Value> {
    let text = sh::output(sh::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    serde_json::from_str(&text).context("cargo metadata")
}

/// Forbidden edges, each as a sentence.
fn edges(metadata: &Value) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        let name = package["name"].as_str().context("package without name")?;
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            violations.push(format!("{name}: not in the table of allowed edges (xtask/src/edges.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().context("no dependencies")? {
            // The kind is null for a normal dependency. A build script's counts as one.
            if dependency["kind"] == "dev" {
                continue;
            }
            let to = dependency["name"].as_str().context("dependency without name")?;
            let ours = ALLOWED.iter().any(|(known, _)| *known == to);
            if ours && (TOPS.contains(&to) || allowed.is_some_and(|allowed| !allowed.contains(&to))) {
                violations.push(format!("{name} depends on {to}: no such edge is allowed (docs/ARCHITECTURE.md)"));
            }
            if let Some((_, why)) = TESTS_ONLY.iter().find(|(banned, _)| *banned == to) {
                violations.push(format!("{name} depends on {to}: for tests only, since {why}"));
            }
        }
    }
    Ok(violations)
}

/// Crates above tsdb-vfs whose ban on `std::fs` is missing or changed.
fn bans(root: &Path, metadata: &Value) -> Result<Vec<String>> {
    let wanted = std::fs::read(root.join(ABOVE_VFS)).context(ABOVE_VFS)?;
    let above = metadata["packages"].as_array().context("no packages")?.iter().filter_map(|p| p["name"].as_str());
    let changed = above
        .filter(|name| !BELOW_THE_SEAM.contains(name))
        .filter(|name| std::fs::read(root.join(name).join("clippy.toml")).ok().as_deref() != Some(&wanted))
        .map(|name| format!("{name}/clippy.toml is not {ABOVE_VFS}: std::fs must stay forbidden (cargo xtask bless)"));
    Ok(changed.collect())
}

/// Writes the ban into every crate above the seam.
pub(crate) fn bless() -> Result<()> {
    let root = sh::root();
    for (name, _) in ALLOWED.iter().filter(|(name, _)| !BELOW_THE_SEAM.contains(name)) {
        std::fs::copy(root.join(ABOVE_VFS), root.join(name).join("clippy.toml"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The real manifests with one more dependency.
    fn with_edge(from: &str, to: &str, kind: Value) -> Value {
        let mut metadata = metadata().expect("cargo metadata");
        let packages = metadata["packages"].as_array_mut().expect("packages");
        let package = packages.iter_mut().find(|p| p["name"] == from).expect("a crate of ours");
        let dependencies = package["dependencies"].as_array_mut().expect("dependencies");
        dependencies.push(json!({ "name": to, "kind": kind }));
        metadata
    }

    fn violations(from: &str, to: &str, kind: Value) -> String {
        edges(&with_edge(from, to, kind)).expect("readable").join("; ")
    }

    #[test]
    fn the_manifests_as_they_are_have_no_forbidden_edge() {
        assert_eq!(edges(&metadata().expect("cargo metadata")).expect("readable"), Vec::<String>::new());
    }

    #[test]
    fn every_edge_that_is_not_in_the_table_is_found() {
        for (from, allowed) in ALLOWED {
            for (to, _) in ALLOWED.iter().filter(|(to, _)| to != from) {
                let forbidden = TOPS.contains(to) || allowed.is_some_and(|allowed| !allowed.contains(to));
                let found = violations(from, to, Value::Null);
                assert_eq!(!found.is_empty(), forbidden, "{from} → {to}: {found}");
                assert_eq!(violations(from, to, json!("dev")), "", "a dev-dependency is free");
                assert_eq!(!violations(from, to, json!("build")).is_empty(), forbidden, "a build script's is not");
            }
        }
    }

    #[test]
    fn the_other_polynomial_is_for_tests() {
        assert!(violations("wal-segment", "crc32fast", Value::Null).contains("Castagnoli"));
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        let metadata = json!({ "packages": [{ "name": "tsdb-block", "dependencies": [] }] });
        assert_eq!(edges(&metadata).expect("readable").len(), 1);
    }

    #[test]
    fn every_crate_above_the_seam_has_the_ban() {
        let found = bans(&sh::root(), &metadata().expect("cargo metadata")).expect("readable");
        assert_eq!(found, Vec::<String>::new());
    }

    /// The ban itself, tried: a crate that reads a file past the seam does not pass clippy as `cargo xtask ci` runs it.
    #[test]
    fn clippy_refuses_std_fs_under_the_ban() {
        let scratch = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| std::fs::write(scratch.path().join(name), text).expect("written");
        std::fs::create_dir(scratch.path().join("src")).expect("made");
        file("Cargo.toml", "[package]\nname = \"leak\"\nedition = \"2024\"\n[workspace]\n");
        let check = |source: &str| {
            file("src/lib.rs", source);
            let mut cargo = std::process::Command::new("cargo");
            cargo.current_dir(scratch.path()).args(["clippy", "--quiet", "--offline", "--", "-Dwarnings"]);
            cargo.env("CARGO_TARGET_DIR", scratch.path().join("target")).env_remove("RUSTFLAGS");
            let output = cargo.output().expect("cargo clippy runs");
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let leak =
            "pub fn leak(path: &str) -> bool { std::fs::read(path).is_ok() && std::fs::File::open(path).is_ok() }\n";
        let (passes, said) = check(leak);
        assert!(passes, "nothing is forbidden yet: {said}");
        let ban = std::fs::read_to_string(sh::root().join(ABOVE_VFS)).expect("the ban");
        file("clippy.toml", &ban);
        let (passes, said) = check(&format!("// again\n{leak}"));
        assert!(!passes && said.contains("disallowed method `std::fs::read`"), "{said}");
        assert!(said.contains("disallowed type `std::fs::File`"), "{said}");
    }
}
