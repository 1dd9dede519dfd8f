//! Texts that callers and people hand back or write: page tokens and cursors, the positions in them (which carry no secret, so
//! that any can be made), invitations, configurations, policies. The first byte says which.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overlap_server::{config::Config, error::Blame, fuzzing};

fuzz_target!(|data: &[u8]| {
    let Some((&what, rest)) = data.split_first() else {
        return;
    };
    if what == 1 {
        return fuzzing::positions(rest);
    }
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    match what {
        0 => fuzzing::token(text),
        2 => {
            if let Err(error) = Config::parse(text, "file") {
                let blame = error.reason().blame();
                assert!(
                    matches!(blame, Blame::Caller | Blame::Environment),
                    "{error}"
                );
            }
        }
        _ => {
            let _ = overlap_proto::policy_file::parse(text, "file");
        }
    }
});
