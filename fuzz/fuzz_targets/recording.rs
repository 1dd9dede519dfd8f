//! Any recording is read and audited to its end, and no recording passes that differs from the run of the receipts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overlap_crypto::{
    audit::Audit,
    backend::Backend,
    recording::{EntryHeader, EntryKind, HEADER_BYTES, MAGIC, MAX_BODY_BYTES},
    signature::Signer as _,
    wire::FrameKind,
};
use overlap_fuzz::seeds::RECORDED;

fuzz_target!(|data: &[u8]| {
    let run = &*RECORDED;
    let keys = [0, 1].map(|side: usize| run.companies[side].signer.public_key());
    let Some(mut rest) = data.strip_prefix(MAGIC) else {
        return;
    };
    let mut audit = Audit::new(Backend::detect(), keys, run.receipts);
    let mut entries = Vec::new();
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let header = match EntryHeader::decode(header) {
            Ok(read) => {
                assert_eq!(read.encode(), header);
                assert!(read.body_bytes <= MAX_BODY_BYTES);
                read
            }
            Err(_) => return,
        };
        let Some((body, after)) = after.split_at_checked(header.body_bytes as usize) else {
            return;
        };
        rest = after;
        audit.entry(&header.kind, body);
        entries.push((header.kind, body.to_vec()));
    }
    if !rest.is_empty() {
        return;
    }
    let report = audit.finish();
    if report.problems.is_empty() {
        // Acknowledgements bind nobody, and a connection counts when something is said about it.
        let said = |entries: &[(EntryKind, Vec<u8>)]| {
            let mut said: Vec<_> = entries
                .iter()
                .filter_map(|(kind, body)| match *kind {
                    EntryKind::Frame {
                        kind: FrameKind::Ack,
                        ..
                    } => None,
                    EntryKind::Frame {
                        sender,
                        flow,
                        kind,
                        sequence,
                    } => Some((
                        sender.code(),
                        flow.code(),
                        kind.code(),
                        sequence,
                        body.clone(),
                    )),
                    _ => None,
                })
                .collect();
            // The two directions cross on the wire as they like.
            said.sort_by_key(|(sender, ..)| *sender);
            said
        };
        assert!(said(&entries) == said(&run.entries), "another run passes");
    }
});
