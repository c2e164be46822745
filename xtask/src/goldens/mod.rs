//! Goldens: what Prometheus 3.14 wrote, committed, so that the tests need no Go.
//!
//! # Where a new golden goes
//!
//! A file of the layer in this folder with `pub(super) const GOLDENS: &[Golden] = …`, one `mod` line and one line in
//! [`LAYERS`]. Each golden is one folder under `testdata/`; `testdata/MANIFEST.json` says what made it and what its files
//! are. `cargo xtask bless --goldens [PATH]` makes them again, `cargo xtask ci goldens` compares them with the manifest.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::interop::Reference;
use crate::sh;

mod chunks;
mod dirs;
mod records;
mod scrapes;
mod snapshot;

/// Every layer's goldens. One line a layer.
const LAYERS: &[&[Golden]] = &[chunks::GOLDENS, dirs::GOLDENS, records::GOLDENS, scrapes::GOLDENS, snapshot::GOLDENS];

/// All goldens together: a clone should stay small.
const MOST_BYTES: u64 = 8 << 20;

/// One folder of files that the reference wrote.
pub(crate) struct Golden {
    /// Its folder, relative to `testdata/`.
    pub(crate) path: &'static str,
    /// What made it, for the manifest.
    pub(crate) made_by: &'static str,
    /// Makes it in an empty folder.
    pub(crate) make: fn(&mut Reference, &Path) -> Result<()>,
}

#[derive(Serialize, Deserialize, Default)]
struct Manifest {
    /// The reference's module version.
    prometheus: String,
    goldens: Vec<Made>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Made {
    path: String,
    made_by: String,
    files: Vec<GoldenFile>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct GoldenFile {
    name: String,
    bytes: u64,
    crc32c: String,
}

fn manifest_path() -> PathBuf {
    sh::root().join("testdata/MANIFEST.json")
}

fn read_manifest() -> Result<Manifest> {
    let text = fs::read_to_string(manifest_path()).with_context(|| manifest_path().display().to_string())?;
    serde_json::from_str(&text).context("testdata/MANIFEST.json")
}

/// Makes the goldens (all, or those whose path begins so) again, and the manifest.
pub(crate) fn bless(prefix: Option<&str>) -> Result<()> {
    let mut manifest = if manifest_path().exists() { read_manifest()? } else { Manifest::default() };
    let mut reference = Reference::start()?;
    manifest.prometheus = reference.call("hello", serde_json::json!({}), b"")?.str("prometheus")?.to_owned();
    let known = || LAYERS.iter().flat_map(|layer| layer.iter());
    for golden in known().filter(|golden| prefix.is_none_or(|prefix| golden.path.starts_with(prefix))) {
        let folder = sh::root().join("testdata").join(golden.path);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        sh::step(golden.path, || (golden.make)(&mut reference, &folder))?;
        let made = Made { path: golden.path.into(), made_by: golden.made_by.into(), files: files(&folder)? };
        manifest.goldens.retain(|each| each.path != golden.path);
        manifest.goldens.push(made);
    }
    manifest.goldens.retain(|each| known().any(|golden| golden.path == each.path));
    manifest.goldens.sort_by(|a, b| a.path.cmp(&b.path));
    fs::write(manifest_path(), serde_json::to_string_pretty(&manifest)? + "\n")?;
    check()
}

/// Whether the goldens are what the manifest says, no file more and none less.
pub(crate) fn check() -> Result<()> {
    let manifest = read_manifest()?;
    let mut bytes = 0;
    for golden in LAYERS.iter().flat_map(|layer| layer.iter()) {
        ensure!(manifest.goldens.iter().any(|made| made.path == golden.path), "{}: not in the manifest", golden.path);
    }
    for made in &manifest.goldens {
        let found = files(&sh::root().join("testdata").join(&made.path))?;
        if found != made.files {
            bail!("testdata/{} is not what the manifest says:\n  {found:?}\n  {:?}", made.path, made.files);
        }
        bytes += found.iter().map(|file| file.bytes).sum::<u64>();
    }
    ensure!(bytes <= MOST_BYTES, "the goldens are {bytes} bytes, at most {MOST_BYTES} are wanted");
    println!("    {} goldens, {bytes} bytes, of Prometheus {}", manifest.goldens.len(), manifest.prometheus);
    Ok(())
}

/// Every file below a folder, sorted by name.
fn files(folder: &Path) -> Result<Vec<GoldenFile>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let content = fs::read(&path)?;
            found.push(GoldenFile {
                name: path.strip_prefix(folder)?.display().to_string(),
                bytes: content.len() as u64,
                crc32c: format!("{:08x}", crc32c::crc32c(&content)),
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
