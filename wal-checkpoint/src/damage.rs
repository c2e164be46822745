//! Damage in a source, as a run reports it.

use std::fmt;

use wal_format::DecodeError;
use wal_segment::{FrameFault, Location};

/// What to do about damage in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DamagePolicy {
    /// Stop, with nothing changed.
    #[default]
    Strict,
    /// Read over it, keep everything that is sound, and report what was lost. [`retire`](crate::retire) then moves the
    /// damaged files to `quarantine/` instead of removing them. With this policy one damaged record does not stop
    /// truncation for ever.
    Salvage,
}

/// A damaged place in a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{location}: {problem}")]
pub struct Damage {
    /// Where.
    pub location: Location,
    /// What.
    pub problem: Problem,
}

/// What is wrong at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The bytes are no frames, or their checksum is wrong.
    Frame(FrameFault),
    /// A sound frame holds a record that can't be decoded.
    Record(DecodeError),
    /// The file can't be read at all.
    File(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(fault) => fault.fmt(f),
            Self::Record(error) => error.fmt(f),
            Self::File(error) => f.write_str(error),
        }
    }
}

impl From<wal_segment::Damage> for Damage {
    fn from(damage: wal_segment::Damage) -> Self {
        Self { location: damage.location, problem: Problem::Frame(damage.fault) }
    }
}
