//! P-31: two ledgers, notices in every order, always the same terms in the end.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use proptest::prelude::*;
use rusqlite::params;
use tempfile::TempDir;

use super::{
    actions,
    ledger::Ledger,
    policy::{Policy, Stage},
};
use crate::{
    clock::MockClock,
    config::Config,
    error::{Error, Reason},
    node::{InitOptions, Node, Registry, SharingChange, init},
    notices::{self, delivered, waiting},
    partnership::{Partnership, connected},
};

/// One organisation's node, without its listeners: the test carries the notices.
struct Party {
    _directory: TempDir,
    node: Arc<Node>,
    changes: Arc<Mutex<Vec<SharingChange>>>,
    stages: Arc<Mutex<Vec<Stage>>>,
}

impl Party {
    fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = MockClock::new("2026-03-01T12:00:00Z".parse::<Timestamp>().unwrap());
        let options = InitOptions {
            organization: name.to_owned(),
            ..InitOptions::default()
        };
        init(directory.path(), options, &clock).unwrap();
        let changes = Arc::new(Mutex::new(Vec::new()));
        let mut registry = Registry::standard();
        let seen = Arc::clone(&changes);
        registry.on_sharing_changed(move |_, _, _, change| {
            seen.lock().unwrap().push(change);
            Ok(())
        });
        let stages = Arc::new(Mutex::new(Stage::built_in()));
        let named = Arc::clone(&stages);
        registry.own_stages(move |_| Ok(named.lock().unwrap().clone()));
        let config = Config::read(directory.path()).unwrap();
        let node = Node::open_with(directory.path(), Arc::new(clock), config, registry).unwrap();
        node.store
            .write_blocking(|tx| Ok(tx.execute_batch("PRAGMA synchronous = OFF")?))
            .ok();
        Self {
            _directory: directory,
            node,
            changes,
            stages,
        }
    }

    /// Pins another party under the id `id`.
    fn knows(&self, id: &str, other: &Self) {
        let (name, certificate, key) = (
            other.node.config.organization.clone(),
            other.node.identity.certificate_sha256(),
            other.node.identity.organization_key(),
        );
        self.node
            .store
            .write_blocking(|tx| {
                tx.execute(
                    "INSERT INTO partnerships (id, state, organization, known_as, organization_folded, certificate_sha256, organization_key, created_us) \
                     VALUES (?1, 'CONNECTED', ?2, ?2, ?3, ?4, ?5, 0)",
                    params![id, name, name.to_lowercase(), certificate, key],
                )?;
                Ok(())
            })
            .unwrap();
    }

    fn partner(&self, id: &str) -> Partnership {
        let id = id.to_owned();
        self.node
            .store
            .read_blocking(|connection| connected(connection, &id))
            .unwrap()
    }

    fn ledger(&self, id: &str) -> Ledger {
        self.node
            .store
            .read_blocking(|connection| Ledger::load(connection, id))
            .unwrap()
    }

    fn set(&self, id: &str, policy: &str) -> Result<Ledger, crate::error::Error> {
        let policy = Policy::from_toml(policy, "p.toml")?;
        let partner = self.partner(id);
        self.node
            .store
            .write_blocking(|tx| actions::set(&self.node, tx, &partner, policy, "tok_x"))
    }

    fn act(&self, id: &str, action: Act) -> Result<Ledger, crate::error::Error> {
        let partner = self.partner(id);
        self.node.store.write_blocking(|tx| match action {
            Act::Rename => {
                self.stages.lock().unwrap()[0].label.push('!');
                super::stages_changed(&self.node, tx, "tok_x")?;
                Ledger::load(tx, id)
            }
            Act::Set(policy) => actions::set(
                &self.node,
                tx,
                &partner,
                Policy::from_toml(POLICIES[policy], "p.toml").unwrap(),
                "tok_x",
            ),
            Act::Approve => actions::approve(&self.node, tx, &partner, "tok_x"),
            Act::Decline => actions::decline(&self.node, tx, &partner, "tok_x"),
            Act::Revoke => actions::revoke(&self.node, tx, &partner, "tok_x"),
        })
    }

    fn terms(&self, id: &str) -> (u64, u64, Option<[u8; 32]>) {
        let ledger = self.ledger(id);
        let hash = ledger
            .terms_hash(
                &self.node.identity.organization_key(),
                &self.partner(id).organization_key,
            )
            .unwrap();
        (ledger.generation, ledger.version(), hash)
    }
}

/// The pair of parties: A knows B as "b" and B knows A as "a".
struct Pair {
    a: Party,
    b: Party,
    runtime: tokio::runtime::Runtime,
}

impl Pair {
    fn new() -> Self {
        let (a, b) = (Party::new("Acme"), Party::new("Globex"));
        a.knows("b", &b);
        b.knows("a", &a);
        Self {
            a,
            b,
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap(),
        }
    }

    /// Carries the oldest notice one way, `times` times over as a retry would; `false` if there was none.
    fn carry(&self, from_a: bool, times: usize) -> bool {
        let (from, to, sender, receiver) = if from_a {
            (&self.a, &self.b, "a", "b")
        } else {
            (&self.b, &self.a, "b", "a")
        };
        let notice = from
            .node
            .store
            .read_blocking(|connection| waiting(connection, receiver, 1))
            .unwrap()
            .pop();
        let Some(notice) = notice else {
            return false;
        };
        for _ in 0..times {
            let partnership = to.partner(sender);
            self.runtime
                .block_on(notices::receive(&to.node, partnership, notice.clone()))
                .unwrap();
        }
        from.node
            .store
            .write_blocking(|tx| delivered(tx, receiver, notice.sequence))
            .unwrap();
        true
    }

    fn carry_all(&self) {
        while self.carry(true, 1) | self.carry(false, 1) {}
    }

    fn assert_agreed(&self) {
        let (a, b) = (self.a.ledger("b"), self.b.ledger("a"));
        assert_eq!(self.a.terms("b"), self.b.terms("a"));
        assert_eq!(a.mine.effective, b.theirs.effective);
        assert_eq!(a.theirs.effective, b.mine.effective);
        assert_eq!(a.mine.open, b.theirs.open);
        assert_eq!(a.theirs.open, b.mine.open);
        assert_eq!(a.ended, b.ended);
        assert_eq!(a.mine.effective.is_some(), a.theirs.effective.is_some());
        for party in [&self.a, &self.b] {
            party
                .node
                .store
                .read_blocking(crate::audit::verify)
                .unwrap();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Set(usize),
    Approve,
    Decline,
    Revoke,
    Rename,
}

const NARROW: &str = "[stages]\nProspect = \"count\"\n";
const WIDE: &str =
    "[stages]\nProspect = \"list\"\nCustomer = \"list\"\n[fields]\nshare = [\"name\"]\n";
const POLICIES: [&str; 5] = [
    NARROW,
    "[stages]\nProspect = \"list\"\n",
    WIDE,
    "[stages]\nProspect = \"list\"\nCustomer = \"count\"\n[keys]\nmatch_on = [\"email\"]\n",
    "[stages]\nCustomer = \"list\"\n[limits]\nmin_count = 10\n",
];

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..POLICIES.len()).prop_map(Act::Set),
        4 => Just(Act::Approve),
        2 => Just(Act::Decline),
        1 => Just(Act::Revoke),
        1 => Just(Act::Rename),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Act { at_a: bool, act: Act },
    Carry { from_a: bool, times: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<bool>(), act()).prop_map(|(at_a, act)| Step::Act { at_a, act }),
        (any::<bool>(), 1..3usize).prop_map(|(from_a, times)| Step::Carry { from_a, times }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Whatever both sides do, and however their notices are delayed and repeated, they end with the same terms.
    #[test]
    fn p31_both_nodes_converge(steps in prop::collection::vec(step(), 1..40)) {
        let pair = Pair::new();
        for step in steps {
            match step {
                Step::Act { at_a, act } => {
                    let (party, id) = if at_a { (&pair.a, "b") } else { (&pair.b, "a") };
                    if let Err(error) = party.act(id, act) {
                        prop_assert_eq!(error.reason(), Reason::FailedPrecondition);
                    }
                }
                Step::Carry { from_a, times } => {
                    pair.carry(from_a, times);
                }
            }
        }
        pair.carry_all();
        pair.assert_agreed();
    }
}

#[test]
fn p31_approving_mirrors_the_proposal() {
    let pair = Pair::new();
    pair.a.set("b", WIDE).unwrap();
    pair.carry_all();
    let approved = pair.b.act("a", Act::Approve).unwrap();
    let (mine, theirs) = approved.terms().unwrap();
    assert_eq!(mine.document.policy, theirs.document.policy);
    pair.carry_all();
    pair.assert_agreed();
    assert_eq!(*pair.a.changes.lock().unwrap(), [SharingChange::Activated]);
    // Again, and again: nothing more happens.
    let before = pair.b.terms("a");
    pair.b.act("a", Act::Approve).unwrap();
    pair.carry_all();
    assert_eq!(pair.b.terms("a"), before);
    assert_eq!(pair.b.changes.lock().unwrap().len(), 1);
}

#[test]
fn p31_change_and_approve_makes_both_active() {
    let pair = Pair::new();
    pair.a.set("b", WIDE).unwrap();
    pair.carry_all();
    let answered = pair.b.set("a", NARROW).unwrap();
    assert!(answered.terms().is_some());
    pair.carry_all();
    pair.assert_agreed();
    let agreement = pair.a.ledger("b").agreement("b").unwrap();
    assert_eq!(agreement.mine, Policy::from_toml(WIDE, "p").unwrap());
    assert_eq!(agreement.theirs, Policy::from_toml(NARROW, "p").unwrap());
    assert_eq!(
        agreement.their_stages.len(),
        6,
        "hidden stages are named too"
    );
}

#[test]
fn p31_proposals_that_cross_wait_for_either_side() {
    let pair = Pair::new();
    pair.a.set("b", WIDE).unwrap();
    pair.b.set("a", NARROW).unwrap();
    pair.carry_all();
    pair.assert_agreed();
    assert!(pair.a.ledger("b").terms().is_none());
    // Both approve before either knows of it.
    pair.a.act("b", Act::Approve).unwrap();
    pair.b.act("a", Act::Approve).unwrap();
    pair.carry_all();
    pair.assert_agreed();
    assert!(pair.a.ledger("b").terms().is_some());
}

#[test]
fn p31_declining_ends_the_negotiation() {
    let pair = Pair::new();
    assert_eq!(
        pair.b.act("a", Act::Decline).unwrap_err().reason(),
        Reason::FailedPrecondition
    );
    pair.a.set("b", WIDE).unwrap();
    pair.carry_all();
    pair.b.act("a", Act::Decline).unwrap();
    pair.b.act("a", Act::Decline).unwrap();
    pair.carry_all();
    pair.assert_agreed();
    let error = pair.a.ledger("b").agreement("b").unwrap_err();
    assert_eq!(error.reason(), Reason::SharingNotActive);
    assert!(error.message().contains("declined"), "{error}");
    assert_eq!(
        pair.b.act("a", Act::Approve).unwrap_err().reason(),
        Reason::FailedPrecondition
    );
}

#[test]
fn p31_widening_waits_while_the_old_terms_stay() {
    let pair = Pair::new();
    pair.a.set("b", NARROW).unwrap();
    pair.carry_all();
    pair.b.act("a", Act::Approve).unwrap();
    pair.carry_all();
    let before = pair.a.terms("b");
    pair.a.set("b", WIDE).unwrap();
    pair.carry_all();
    pair.assert_agreed();
    assert_eq!(pair.a.terms("b"), before);
    assert!(pair.b.ledger("a").theirs.open.is_some());
    // Declined: as if it had not been.
    pair.b.act("a", Act::Decline).unwrap();
    pair.carry_all();
    pair.assert_agreed();
    assert_eq!(pair.a.terms("b"), before);
    assert!(pair.a.ledger("b").mine.open.is_none());
    // Approved the second time; the other side's policy is as it was.
    pair.a.set("b", WIDE).unwrap();
    pair.carry_all();
    pair.b.act("a", Act::Approve).unwrap();
    pair.carry_all();
    pair.assert_agreed();
    let agreement = pair.b.ledger("a").agreement("a").unwrap();
    assert_eq!(agreement.theirs, Policy::from_toml(WIDE, "p").unwrap());
    assert_eq!(agreement.mine, Policy::from_toml(NARROW, "p").unwrap());
    assert!(pair.b.terms("a").1 > before.1, "the version rises");
    for party in [&pair.a, &pair.b] {
        assert_eq!(
            *party.changes.lock().unwrap(),
            [SharingChange::Activated, SharingChange::Widened]
        );
    }
}

#[test]
fn p31_z06_tightening_takes_effect_at_once_and_removes_results() {
    let pair = Pair::new();
    pair.a.set("b", WIDE).unwrap();
    pair.carry_all();
    pair.b.act("a", Act::Approve).unwrap();
    pair.carry_all();
    pair.a.set("b", NARROW).unwrap();
    let agreement = pair.a.ledger("b").agreement("b").unwrap();
    assert_eq!(agreement.mine, Policy::from_toml(NARROW, "p").unwrap());
    pair.carry_all();
    pair.assert_agreed();
    // Twice the same is once.
    pair.a.set("b", NARROW).unwrap();
    pair.carry_all();
    for party in [&pair.a, &pair.b] {
        let changes = party.changes.lock().unwrap();
        assert_eq!(
            *changes,
            [SharingChange::Activated, SharingChange::Tightened]
        );
        assert!(changes[1].removes_results());
    }
}

#[test]
fn p31_z06_revoking_ends_it_on_both_sides_whatever_is_on_its_way() {
    let pair = Pair::new();
    pair.a.set("b", WIDE).unwrap();
    pair.carry_all();
    pair.b.act("a", Act::Approve).unwrap();
    pair.carry_all();
    // A revokes while B's widening is on its way.
    pair.b
        .set(
            "a",
            "[stages]\nProspect = \"list\"\nCustomer = \"list\"\nLost = \"list\"\n",
        )
        .unwrap();
    pair.a.act("b", Act::Revoke).unwrap();
    pair.a.act("b", Act::Revoke).unwrap();
    pair.carry_all();
    pair.assert_agreed();
    for (party, id) in [(&pair.a, "b"), (&pair.b, "a")] {
        let error = party.ledger(id).agreement(id).unwrap_err();
        assert!(error.message().contains("revoked"), "{error}");
        assert_eq!(
            *party.changes.lock().unwrap(),
            [SharingChange::Activated, SharingChange::Ended]
        );
    }
    // And again from the beginning.
    pair.b.set("a", NARROW).unwrap();
    pair.carry_all();
    pair.a.act("b", Act::Approve).unwrap();
    pair.carry_all();
    pair.assert_agreed();
    assert!(pair.a.ledger("b").terms().is_some());
}

#[test]
fn p31_renamed_stages_reach_the_partner_and_keep_results() {
    let pair = Pair::new();
    pair.a.set("b", WIDE).unwrap();
    pair.carry_all();
    pair.b.act("a", Act::Approve).unwrap();
    pair.carry_all();
    pair.a.act("b", Act::Rename).unwrap();
    pair.carry_all();
    pair.assert_agreed();
    let agreement = pair.b.ledger("a").agreement("a").unwrap();
    assert_eq!(agreement.their_stages[0].label, "Prospect!");
    for party in [&pair.a, &pair.b] {
        assert_eq!(
            *party.changes.lock().unwrap(),
            [SharingChange::Activated, SharingChange::Kept]
        );
    }
    // The stages are the same: nothing to tell.
    pair.a
        .node
        .store
        .write_blocking(|tx| super::stages_changed(&pair.a.node, tx, "tok_x"))
        .unwrap();
    assert!(!pair.carry(true, 1));
}

/// What A's node delivers to B as a tightening of its policy number `base`.
fn deliver_tightening(pair: &Pair, base: u64, policy: &str, sequence: u64) -> Result<(), Error> {
    let ledger = pair.b.ledger("a");
    let document =
        super::document::Document::new(Policy::from_toml(policy, "p").unwrap(), Stage::built_in());
    let body = serde_json::json!({
        "generation": ledger.generation,
        "number": ledger.theirs.last + 1,
        "base": base,
        "document": document,
    });
    let notice = overlap_proto::exchange::v1::DeliverRequest {
        notice_id: format!("ntc_{sequence}"),
        kind: super::incoming::TIGHTENED.to_owned(),
        body: body.to_string().into_bytes(),
        sequence,
    };
    pair.runtime
        .block_on(notices::receive(&pair.b.node, pair.b.partner("a"), notice))
        .map(|_| ())
}

#[test]
fn p31_a_lying_tightening_is_refused() {
    let pair = Pair::new();
    pair.a.set("b", NARROW).unwrap();
    pair.carry_all();
    pair.b.act("a", Act::Approve).unwrap();
    pair.carry_all();
    let before = pair.b.terms("a");
    let base = pair.a.ledger("b").mine.effective.unwrap().number;
    let refused = deliver_tightening(&pair, base, WIDE, 1000).unwrap_err();
    assert_eq!(refused.reason(), Reason::PeerFault);
    assert_eq!(pair.b.terms("a"), before);
}

/// A tightening cannot be taken back by tightening what was in force before it.
#[test]
fn p31_a_tightening_of_a_policy_that_its_side_has_replaced_is_refused() {
    let pair = Pair::new();
    pair.a.set("b", WIDE).unwrap();
    pair.carry_all();
    pair.b.act("a", Act::Approve).unwrap();
    pair.carry_all();
    let wide = pair.a.ledger("b").mine.effective.unwrap().number;
    pair.a.set("b", NARROW).unwrap();
    pair.carry_all();
    let before = pair.b.terms("a");
    let refused = deliver_tightening(&pair, wide, WIDE, 1000).unwrap_err();
    assert_eq!(refused.reason(), Reason::PeerFault);
    assert_eq!(pair.b.terms("a"), before);
    // Of the one in force it is as good as ever.
    let narrow = pair.a.ledger("b").mine.effective.unwrap().number;
    assert!(narrow > wide);
    deliver_tightening(&pair, narrow, NARROW, 1001).unwrap();
}
