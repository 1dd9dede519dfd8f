//! The whole list flow in memory against the plain set intersection.

mod support;

use std::collections::BTreeSet;

use overlap_crypto::{backend::Backend, terms::Tier};
use support::{Company, pseudonym, run_list_flow, sessions, side_terms, terms};

fn customers(range: std::ops::Range<u32>, stages: u8) -> Vec<(u32, u8, Vec<String>)> {
    range
        .enumerate()
        .map(|(owner, number)| {
            let owner = u32::try_from(owner).expect("a small set");
            let stage = u8::try_from(number % u32::from(stages)).expect("few stages");
            (owner, stage, vec![format!("user{number}@example.com")])
        })
        .collect()
}

#[test]
fn z01_p06_the_list_flow_is_the_set_intersection() {
    for backend in Backend::available() {
        let mut rng = support::rng(1);
        let one = Company::new(1, customers(0..300, 2));
        let other = Company::new(2, customers(200..700, 2));
        let terms = terms(
            side_terms(one.id(), &[Tier::List, Tier::Count]),
            side_terms(other.id(), &[Tier::List, Tier::List]),
            100,
        );
        let (session, peer) = sessions(&one, &other, &terms, &mut rng);
        let flow = session.receiving().unwrap();
        assert_eq!(peer.evaluating(), Some(flow));
        assert!(session.plan().initiator.unwrap().list);
        let result = run_list_flow(
            backend,
            flow,
            (&one, terms.side(&one.id()).unwrap()),
            (&other, terms.side(&other.id()).unwrap()),
            true,
            &mut rng,
        );
        let expected: BTreeSet<_> = (200..300)
            .map(|number| (number, (number % 2) as u8, pseudonym(number - 200)))
            .collect();
        assert_eq!(result.receiver_sees, expected);
        let claimed: BTreeSet<_> = (200..300)
            .filter(|number| number % 2 == 0)
            .map(|number| (number - 200, 0, pseudonym(number)))
            .collect();
        assert_eq!(result.evaluator_sees, claimed);
        assert_eq!(result.unopened, 0);
        // Z-01: no raw identifier crosses the wire.
        let identifier = b"@example.com";
        for frame in result.receiver_sent.iter().chain(&result.evaluator_sent) {
            assert!(
                !frame
                    .windows(identifier.len())
                    .any(|bytes| bytes == identifier)
            );
        }
    }
}
