//! Files that people import: any is taken or refused with a reason that fits a screen. The first byte is the kind (0 customers,
//! else a kind of record), the second the format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overlap_fuzz::{
    imports::{customers, records},
    node::kinds,
};
use overlap_proto::v1::{RecordFileFormat, RecordKind};
use overlap_server::customers::files::Format;

fuzz_target!(|data: &[u8]| {
    let [kind, format, file @ ..] = data else {
        return;
    };
    if *kind == 0 {
        let format = if format % 2 == 0 {
            Format::Csv
        } else {
            Format::Ndjson
        };
        customers(format, file);
        return;
    }
    let format = if format % 2 == 0 {
        RecordFileFormat::Csv
    } else {
        RecordFileFormat::Ndjson
    };
    let kinds = kinds();
    let kind = kinds
        .get(usize::from(*kind) - 1)
        .copied()
        .unwrap_or(RecordKind::Unspecified);
    records(kind, format, file);
});
