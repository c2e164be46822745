//! Ctrl-C for commands that write: a flag looked at between steps, so that nothing is left half done.
//!
//! Reading commands do not install it: the signal's default ends them at once, and there is nothing to tidy up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the user asked to stop.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over Ctrl-C (and SIGTERM): the first one sets the flag, the second ends the process on the spot, which every
    /// writer below survives as it survives a crash.
    pub(crate) fn install() -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&flag);
        ctrlc::set_handler(move || {
            if seen.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        })?;
        Ok(Self(flag))
    }

    /// True once Ctrl-C was pressed.
    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
