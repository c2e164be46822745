//! `cargo xtask bless`: takes what is now as what is expected. Read the difference before committing it.

use anyhow::Result;

use crate::{edges, goldens, sh, tidy};

/// Regenerates expectations: snapshots of texts (insta), file-length ratchet; with --goldens what Prometheus wrote
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Crate whose snapshots are taken; all when absent
    #[arg(conflicts_with = "goldens")]
    package: Option<String>,
    /// Makes the goldens again instead (needs Go); with a value only those under that path of testdata/
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "")]
    goldens: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(prefix) = &args.goldens {
        return goldens::bless(Some(prefix.as_str()).filter(|prefix| !prefix.is_empty()));
    }
    edges::bless()?;
    tidy::bless()?;
    let mut cargo = sh::cargo();
    cargo.arg("test");
    match &args.package {
        Some(package) => cargo.args(["--package", package]),
        None => cargo.arg("--workspace"),
    };
    // insta writes every snapshot that differs, and the tests pass.
    sh::run(cargo.env("INSTA_UPDATE", "always").env("INSTA_FORCE_PASS", "1"))
}
