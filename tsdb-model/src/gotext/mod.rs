//! Go's text forms of numbers and strings, where the reference's output is made of them: `%g` and `strconv.Quote`.

mod float;
mod printable;
mod quote;

pub use float::{format_float_g, write_float_g};
pub use quote::{is_print, quote, write_quoted};
