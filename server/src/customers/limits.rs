//! What a customer record may weigh. A value over its limit is an error that names its place, never cut short.

/// Bytes of a customer's id.
pub const MAX_ID_BYTES: usize = 256;
/// Bytes of a stage's id or label.
pub const MAX_STAGE_BYTES: usize = 64;
/// Stages an organisation may have.
pub const MAX_STAGES: usize = 64;
/// Bytes of a name, owner, industry or region.
pub const MAX_TEXT_BYTES: usize = 1024;
/// Bytes of one identifier as the source has it.
pub const MAX_IDENTIFIER_BYTES: usize = 1024;
/// Identifiers of all types that one customer may have.
pub const MAX_IDENTIFIERS: usize = 256;
/// Further fields of one customer, and further columns of a file.
pub const MAX_FIELDS: usize = 256;
/// Bytes of a further field's name.
pub const MAX_FIELD_NAME_BYTES: usize = 128;
/// Bytes of a further field's value.
pub const MAX_FIELD_BYTES: usize = 8 * 1024;
/// Bytes of one record of a file.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;
/// Customers in one file or stream.
pub const MAX_CUSTOMERS: u64 = 100_000_000;
/// Bytes of one Parquet file, which is kept in a temporary one while it is read.
#[cfg(feature = "parquet")]
pub const MAX_PARQUET_BYTES: u64 = 32 << 30;
/// Customers or ids in one message of a stream.
pub const MAX_MESSAGE_ROWS: usize = 10_000;
/// Bytes of a search text.
pub const MAX_SEARCH_BYTES: usize = 256;
/// Customers on a page when the caller does not say.
pub const DEFAULT_PAGE_SIZE: usize = 100;
/// Most customers on a page.
pub const MAX_PAGE_SIZE: usize = 1000;
