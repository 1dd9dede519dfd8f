//! Notices that a partner's node delivers, one after the other, each with its length before it: every one has its effect or is the
//! partner's fault, and none makes the node panic or blame itself.
#![no_main]

use std::{cell::OnceCell, sync::Arc};

use libfuzzer_sys::fuzz_target;
use overlap_fuzz::node::partnered;
use overlap_server::{
    error::{Blame, Reason},
    fuzzing::deliver,
    node::Node,
    partnership::Partnership,
};

thread_local!(static NODE: OnceCell<(tempfile::TempDir, Arc<Node>, Partnership)> = const { OnceCell::new() });

fuzz_target!(|data: &[u8]| {
    let mut notices = Vec::new();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (notice, after) = after.split_at(length);
        notices.push(notice);
        rest = after;
    }
    NODE.with(|node| {
        let (_, node, partnership) = node.get_or_init(|| {
            let memory = std::path::Path::new("/dev/shm");
            let directory = if memory.is_dir() {
                tempfile::tempdir_in(memory)
            } else {
                tempfile::tempdir()
            }
            .expect("a folder for the node");
            let (node, partnership, _) = partnered(directory.path());
            (directory, node, partnership)
        });
        if let Err(error) = deliver(node, partnership, &notices) {
            let blame = error.reason().blame();
            assert!(
                matches!(blame, Blame::Peer | Blame::PeerVersion | Blame::Caller),
                "{:?}: {error}",
                error.reason()
            );
            assert_ne!(error.reason(), Reason::Internal);
        }
    });
});
