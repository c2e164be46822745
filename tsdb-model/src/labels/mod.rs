//! Label sets: owned and packed ([`Labels`]), borrowed out of a record ([`LabelPairs`]), and built ([`LabelsBuilder`]).
//!
//! One byte layout serves all three, and it is the one that a series record has on disk:
//!
//! ```text
//! packed labels: repeated { uvarint length, name bytes, uvarint length, value bytes }
//! ```
//!
//! so that taking labels out of a record and writing them back is a copy. Names and values are bytes: a log can hold
//! any, although the reference only accepts UTF-8 at its front door.

mod builder;
mod pairs;
mod set;
mod text;

pub use builder::LabelsBuilder;
pub use pairs::{Iter, LabelError, LabelErrorKind, LabelPairs};
pub use set::{Labels, hash_packed};
pub use text::is_legacy_name;
