//! The start timestamp of a V2 entry other than the first.
//!
//! ```text
//! marker u8: 0 = none (reads as 0), 1 = as the previous entry's,
//!            anything else (2 is written) = varint difference to the first entry's follows
//! ```

use crate::buffer::Buffer;
use crate::cursor::Cursor;
use crate::error::DecodeError;

pub(crate) const NONE: u8 = 0;
pub(crate) const SAME: u8 = 1;
pub(crate) const EXPLICIT: u8 = 2;

#[inline]
pub(crate) fn read(cursor: &mut Cursor<'_>, first: i64, previous: i64) -> Result<i64, DecodeError> {
    match cursor.byte("a start timestamp marker")? {
        NONE => Ok(0),
        SAME => Ok(previous),
        _ => Ok(first.wrapping_add(cursor.varint("a start timestamp delta")?)),
    }
}

#[inline]
pub(crate) fn put(out: &mut Buffer, st: i64, first: i64, previous: i64) {
    if st == 0 {
        out.put_byte(NONE);
    } else if st == previous {
        out.put_byte(SAME);
    } else {
        out.put_byte(EXPLICIT);
        out.put_varint(st.wrapping_sub(first));
    }
}
