//! Any payload is refused with a code or encodes back, without more memory than it justifies. The first byte is the frame's kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overlap_crypto::{
    backend::Backend,
    receipt::SignedReceipt,
    voprf::{Proof, PublicKey},
    wire::{Flow, Frame, FrameKind, Message},
};
use overlap_fuzz::{memory::within, refused};

fuzz_target!(|data: &[u8]| {
    let Some((&kind, payload)) = data.split_first() else {
        return;
    };
    // The numbers of the transport's message.
    if let Some((numbers, _)) = payload.split_first_chunk::<3>() {
        let [flow, raw, sequence] = numbers.map(u32::from);
        match Frame::from_raw(flow, raw, sequence.into(), payload) {
            Ok(frame) => {
                assert!(frame.kind.belongs_to(frame.flow));
                assert_eq!(Flow::from_code(flow), Ok(frame.flow));
            }
            Err(fault) => refused(fault),
        }
    }
    let kind = FrameKind::ALL[usize::from(kind) % FrameKind::ALL.len()];
    // A suppressed cell of a report has 3 bytes on the wire and 32 in a vector that may be half empty.
    let factor = if kind == FrameKind::Report { 24 } else { 4 };
    let bound = 4_096 + factor * payload.len();
    match within(bound, || Message::decode(kind, payload)) {
        Err(fault) => refused(fault),
        Ok(message) => {
            assert_eq!(message.encode(), payload, "{kind:?}");
            match message {
                Message::Hello(hello) => {
                    if let Some(key) = hello.epoch_key {
                        let _ = PublicKey::decode(&key.public_key);
                    }
                }
                Message::Query(query) => {
                    let _ = Backend::detect().decode(query.elements);
                }
                _ => {}
            }
        }
    }
    let _ = SignedReceipt::decode(payload);
    if let Some(proof) = payload.first_chunk() {
        let _ = Proof::decode(proof);
    }
});
