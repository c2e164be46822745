//! Schema numbers: which exist, which may be appended, which are only read.

/// Highest resolution that may be appended: 256 buckets for each power of two.
pub const EXPONENTIAL_SCHEMA_MAX: i32 = 8;
/// Highest resolution a reader accepts; what is above 8 is reduced to 8.
pub const EXPONENTIAL_SCHEMA_MAX_RESERVED: i32 = 52;
/// Lowest resolution that may be appended: a bucket for each 2^16.
pub const EXPONENTIAL_SCHEMA_MIN: i32 = -4;
/// Lowest resolution a reader accepts; taken as it is.
pub const EXPONENTIAL_SCHEMA_MIN_RESERVED: i32 = -9;
/// Custom buckets: bounds are given one by one.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// Whether `schema` means custom buckets.
#[must_use]
pub const fn is_custom_buckets_schema(schema: i32) -> bool {
    schema == CUSTOM_BUCKETS_SCHEMA
}

/// Whether `schema` means exponential buckets of a resolution that may be appended (-4 to 8).
#[must_use]
pub const fn is_exponential_schema(schema: i32) -> bool {
    schema >= EXPONENTIAL_SCHEMA_MIN && schema <= EXPONENTIAL_SCHEMA_MAX
}

/// Whether a histogram with this schema may be appended.
#[must_use]
pub const fn is_valid_schema(schema: i32) -> bool {
    is_custom_buckets_schema(schema) || is_exponential_schema(schema)
}

/// Whether a reader takes a histogram with this schema (-53, -9 to 52); others are skipped and counted.
#[must_use]
pub const fn is_known_schema(schema: i32) -> bool {
    is_custom_buckets_schema(schema)
        || (schema >= EXPONENTIAL_SCHEMA_MIN_RESERVED && schema <= EXPONENTIAL_SCHEMA_MAX_RESERVED)
}

/// Whether a reader has to reduce the resolution to [`EXPONENTIAL_SCHEMA_MAX`] first (9 to 52).
#[must_use]
pub const fn needs_reduction(schema: i32) -> bool {
    schema > EXPONENTIAL_SCHEMA_MAX && schema <= EXPONENTIAL_SCHEMA_MAX_RESERVED
}
