//! What every command is given: how to print, and through which file system to read.

use std::io::{IsTerminal, Write};

use tsdb_vfs::{Fs, RealFs};

use crate::times::Stamp;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How this run talks to its user, and the file system it works on.
#[derive(Debug)]
pub(crate) struct Context {
    /// The file system of every command: the real one.
    pub(crate) fs: Fs,
    quiet: bool,
    colour: bool,
    local: bool,
    stderr_is_terminal: bool,
}

impl Context {
    /// Looks at the terminal and the environment once.
    pub(crate) fn new(quiet: bool, colour: Colour, local: bool) -> Self {
        let colour = match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => {
                std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            }
        };
        let fs: Fs = std::sync::Arc::new(RealFs::new());
        Self { fs, quiet, colour, local, stderr_is_terminal: std::io::stderr().is_terminal() }
    }

    /// True if standard output may be coloured.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// True if a progress bar may be drawn on stderr.
    pub(crate) fn shows_progress(&self) -> bool {
        self.stderr_is_terminal && !self.quiet
    }

    /// The time `ms` milliseconds after the epoch, in the zone the user asked for.
    pub(crate) fn stamp(&self, ms: i64) -> Stamp {
        Stamp { ms, local: self.local }
    }

    /// A message on stderr: only on a terminal, and never with `--quiet`.
    pub(crate) fn say(&self, message: impl std::fmt::Display) {
        if self.shows_progress() {
            self.stderr_line(format_args!("{message}"));
        }
    }

    /// A warning on stderr, on a terminal or not, but not with `--quiet`.
    pub(crate) fn warn(&self, message: impl std::fmt::Display) {
        if !self.quiet {
            self.stderr_line(format_args!("warning: {message}"));
        }
    }

    /// The error that ends the program, with its causes.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        // Errors of the layers say their cause themselves; it is not said twice.
        let mut text = String::new();
        for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
            if !text.contains(&cause) {
                text.push_str(if text.is_empty() { "" } else { ": " });
                text.push_str(&cause);
            }
        }
        self.stderr_line(format_args!("headwater: {text}"));
    }

    /// Sends what the layers log to stderr: warnings by default, more by `HEADWATER_LOG` (e.g. `debug`).
    pub(crate) fn start_log(&self) {
        let fallback = if self.quiet { "error" } else { "warn" };
        let filter = tracing_subscriber::EnvFilter::try_from_env("HEADWATER_LOG")
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(fallback));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(self.stderr_is_terminal && self.colour)
            .with_target(false)
            .without_time()
            .init();
    }

    fn stderr_line(&self, line: std::fmt::Arguments<'_>) {
        // Nobody is left to tell if stderr is closed.
        drop(writeln!(std::io::stderr().lock(), "{line}"));
    }
}
