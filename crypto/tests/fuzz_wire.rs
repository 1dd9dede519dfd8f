//! Z-05: whatever bytes a peer sends, decoding them refuses with a code or gives exactly what encodes back to them, never panics, and
//! never asks for more memory than the payload justifies.
//!
//! Short by default; `PROPTEST_CASES=1000000 cargo test --release -p overlap-crypto --test fuzz_wire` for long. Failures are kept in
//! `proptest-regressions/` and tried first.
#![expect(
    unsafe_code,
    reason = "an allocator that remembers its largest request"
)]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/vectors.rs"]
mod vectors;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use overlap_crypto::{
    audit::Audit,
    backend::Backend,
    fault::Fault,
    receipt::SignedReceipt,
    recording::{EntryHeader, EntryKind, HEADER_BYTES, MAX_BODY_BYTES},
    voprf::Proof,
    wire::{Frame, FrameKind, Message},
};
use proptest::prelude::*;

struct Largest;

thread_local!(static LARGEST: Cell<usize> = const { Cell::new(0) });

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Largest {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Largest = Largest;

/// Decodes, and checks what every decoder owes.
fn check(kind: FrameKind, payload: &[u8]) {
    LARGEST.with(|largest| largest.set(0));
    let decoded = Message::decode(kind, payload);
    let largest = LARGEST.with(Cell::get);
    // A suppressed cell of a report has 3 bytes on the wire and 32 in a vector that may be half empty.
    let factor = if kind == FrameKind::Report { 24 } else { 4 };
    assert!(
        largest <= 4_096 + factor * payload.len(),
        "{kind:?}: {largest} bytes for a payload of {}",
        payload.len()
    );
    match decoded {
        Ok(message) => assert_eq!(message.encode(), payload, "{kind:?}"),
        Err(fault) => assert_eq!(Fault::from_code(fault.code()), Some(fault)),
    }
}

/// Well-formed bodies, out of the transcript vectors.
fn good() -> Vec<Vec<u8>> {
    fn collect(value: &serde_json::Value, bodies: &mut Vec<Vec<u8>>) {
        match value {
            serde_json::Value::String(text) => bodies.extend(hex::decode(text).ok()),
            serde_json::Value::Array(values) => values.iter().for_each(|v| collect(v, bodies)),
            serde_json::Value::Object(values) => values.values().for_each(|v| collect(v, bodies)),
            _ => {}
        }
    }
    let mut bodies = Vec::new();
    for (_, text) in vectors::all() {
        collect(&serde_json::from_str(&text).unwrap(), &mut bodies);
    }
    bodies.retain(|body| body.len() > 1);
    bodies
}

thread_local! {
    static GOOD: Vec<Vec<u8>> = good();
    static AUDITED: ([[u8; 32]; 2], [SignedReceipt; 2]) = audited();
}

/// Both organisation keys and receipts of the vectors' handshake, whose hellos and confirmations are among the good bodies.
fn audited() -> ([[u8; 32]; 2], [SignedReceipt; 2]) {
    let files = vectors::all();
    let (_, text) = files
        .iter()
        .find(|(name, _)| *name == "handshake.json")
        .unwrap();
    let handshake: serde_json::Value = serde_json::from_str(text).unwrap();
    let bytes = |side: usize, name: &str| {
        hex::decode(handshake["sides"][side][name].as_str().unwrap()).unwrap()
    };
    let keys = [0, 1].map(|side| bytes(side, "organization_key").try_into().unwrap());
    let receipts = [0, 1].map(|side| SignedReceipt::decode(&bytes(side, "receipt")).unwrap());
    (keys, receipts)
}

/// One change of a body.
#[derive(Clone, Debug)]
enum Edit {
    Set(prop::sample::Index, u8),
    /// Four bytes at once, as a count or length has.
    Number(prop::sample::Index, u32),
    Cut(prop::sample::Index),
    Repeat(prop::sample::Index, u8),
    Append(Vec<u8>),
}

fn edit() -> impl Strategy<Value = Edit> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (
            any::<Index>(),
            prop_oneof![
                Just(0),
                Just(1),
                Just(u32::MAX),
                Just(1 << 14),
                any::<u32>()
            ]
        )
            .prop_map(|(at, number)| Edit::Number(at, number)),
        any::<Index>().prop_map(Edit::Cut),
        (any::<Index>(), any::<u8>()).prop_map(|(at, times)| Edit::Repeat(at, times)),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Edit::Append),
    ]
}

fn apply(body: &mut Vec<u8>, edit: Edit) {
    if body.is_empty() {
        return;
    }
    match edit {
        Edit::Set(at, byte) => {
            let at = at.index(body.len());
            body[at] = byte;
        }
        Edit::Number(at, number) => {
            let at = at.index(body.len());
            for (place, byte) in body[at..].iter_mut().zip(number.to_be_bytes()) {
                *place = byte;
            }
        }
        Edit::Cut(at) => body.truncate(at.index(body.len())),
        Edit::Repeat(at, times) => {
            let tail = body[at.index(body.len())..].to_vec();
            for _ in 0..times.min(8) {
                body.extend_from_slice(&tail);
            }
        }
        Edit::Append(bytes) => body.extend(bytes),
    }
}

proptest! {
    #[test]
    fn any_payload_is_refused_with_a_code_or_encodes_back(
        kind in prop::sample::select(FrameKind::ALL),
        payload in prop::collection::vec(any::<u8>(), 0..2_000),
    ) {
        check(kind, &payload);
    }

    /// Found by the coverage-guided target: the vector of a report's cells doubles, and a suppressed cell is short on the wire.
    #[test]
    fn reports_of_suppressed_cells_ask_for_memory_in_proportion(cells in 0_usize..4_200) {
        let cells: Vec<u8> = (0..cells).flat_map(|cell| [(cell / 64) as u8, (cell % 64) as u8, 0]).collect();
        let count = u32::try_from(cells.len() / 3).unwrap().to_be_bytes();
        check(FrameKind::Report, &[&[0; 8], &count[..], &cells, &[0; 64]].concat());
    }

    #[test]
    fn edited_bodies_are_refused_with_a_code_or_encode_back(
        kind in prop::sample::select(FrameKind::ALL),
        choice in any::<prop::sample::Index>(),
        edits in prop::collection::vec(edit(), 0..6),
    ) {
        let mut body = GOOD.with(|good| choice.get(good).clone());
        edits.into_iter().for_each(|edit| apply(&mut body, edit));
        check(kind, &body);
        // Whoever keeps receipts and proofs in files reads them with the same care.
        let _ = SignedReceipt::decode(&body);
        if let Some(proof) = body.first_chunk() {
            let _ = Proof::decode(proof);
        }
    }

    #[test]
    fn any_header_of_a_recording_is_refused_or_encodes_back(
        mut bytes in any::<[u8; HEADER_BYTES]>(), what in 0_u8..5, flow in 0_u8..5, kind in 0_u8..40, short in any::<bool>(),
    ) {
        if short {
            bytes[..3].copy_from_slice(&[what, flow, kind]);
            bytes[11..13].fill(0);
        }
        if let Ok(header) = EntryHeader::decode(&bytes) {
            prop_assert_eq!(header.encode(), bytes);
            prop_assert!(header.body_bytes <= MAX_BODY_BYTES);
        }
    }

    /// Entries in any order, of frames that fit their kind or not: an audit ends, and finds that it is no whole run.
    #[test]
    fn any_recording_is_audited_to_its_end(
        entries in prop::collection::vec(
            (0_u8..4, 0_u8..4, 0_u64..3, any::<prop::sample::Index>(), any::<prop::sample::Index>(), prop::option::of(edit())),
            0..30,
        ),
    ) {
        let mut audit = AUDITED.with(|(keys, receipts)| Audit::new(Backend::detect(), *keys, *receipts));
        for (what, flow, sequence, kind, body, change) in entries {
            let mut body = GOOD.with(|good| body.get(good).clone());
            change.into_iter().for_each(|change| apply(&mut body, change));
            let kinds: Vec<FrameKind> = FrameKind::ALL.iter().copied().filter(|kind| {
                Message::decode(*kind, &body).is_ok()
            }).collect();
            // Mostly what the body may be.
            let kind = if kinds.is_empty() { *kind.get(FrameKind::ALL) } else { *kind.get(&kinds) };
            let header = [what, flow, kind.code(), 0, 0, 0, 0, 0, 0, 0, sequence as u8, 0, 0, 0, 0];
            let kind = match EntryHeader::decode(&header) {
                Ok(header) => header.kind,
                Err(_) => EntryKind::Connection,
            };
            audit.entry(&kind, &body);
        }
        prop_assert!(!audit.finish().problems.is_empty());
    }

    #[test]
    fn any_numbers_make_a_frame_or_a_fault(
        flow in any::<u32>(), kind in any::<u32>(), small in any::<bool>(), sequence in any::<u64>(),
    ) {
        let (flow, kind) = if small { (flow % 6, kind % 40) } else { (flow, kind) };
        if let Ok(frame) = Frame::from_raw(flow, kind, sequence, &[]) {
            prop_assert!(frame.kind.belongs_to(frame.flow));
            prop_assert_eq!(u32::from(frame.kind.code()), kind);
        }
    }
}
