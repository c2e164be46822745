//! The three exit codes every command keeps to.

use std::process::ExitCode;

/// The command did what it was asked and found nothing wrong.
pub(crate) fn fine() -> ExitCode {
    ExitCode::SUCCESS
}

/// The command ran, and has something to report: damage, a refused sample, a loss.
pub(crate) fn findings() -> ExitCode {
    ExitCode::from(1)
}

/// The command could not run: usage, no such directory, not a data directory, locked.
pub(crate) fn cannot() -> ExitCode {
    ExitCode::from(2)
}

/// [`fine`] or [`findings`].
pub(crate) fn findings_if(any: bool) -> ExitCode {
    if any { findings() } else { fine() }
}
