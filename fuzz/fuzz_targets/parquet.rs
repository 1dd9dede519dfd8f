//! Parquet files of customers and of deals: any is taken or refused with a reason that fits a screen, within a bound on memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overlap_fuzz::{
    imports::{customers, records},
    memory,
};
use overlap_proto::v1::{RecordFileFormat, RecordKind};
use overlap_server::customers::files::Format;

/// Bytes at once: a page, or the values of a dictionary, of those that a small file may decompress to.
const BYTES: usize = 512 << 20;

/// The parquet crate may panic, as the node contains that. Whatever else panics fails.
fn fail_on_our_panics() {
    let fail = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or("", |location| location.file());
        if !place.contains("/parquet-") && !place.contains("/bytes-") {
            fail(panic);
        }
    }));
}

fuzz_target!(init: fail_on_our_panics(), |file: &[u8]| {
    memory::within(BYTES, || {
        customers(Format::Parquet, file);
        records(RecordKind::Deal, RecordFileFormat::Parquet, file);
    });
});
