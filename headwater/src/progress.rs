//! A progress bar on stderr, or nothing at all.

use std::borrow::Cow;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::context::Context;

/// A bar over bytes; hidden off a terminal and with `--quiet`. [`Progress::finish`] clears it; a bar
/// that is dropped leaves its last state.
#[derive(Debug, Clone)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar that is full at `total` bytes.
    pub(crate) fn bytes(context: &Context, what: impl Into<Cow<'static, str>>, total: u64) -> Self {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        Self::start(context, what, Some(total), style.ok())
    }

    fn start(
        context: &Context,
        what: impl Into<Cow<'static, str>>,
        total: Option<u64>,
        style: Option<ProgressStyle>,
    ) -> Self {
        if !context.shows_progress() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_message(what);
        if let Some(style) = style {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// Adds `delta`.
    pub(crate) fn add(&self, delta: u64) {
        self.0.inc(delta);
    }

    /// Sets position and length.
    pub(crate) fn of(&self, position: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(position);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
