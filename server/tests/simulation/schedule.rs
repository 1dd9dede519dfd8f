//! What goes wrong during a run, as data: made from a seed, printed when something breaks, kept as a case.

use std::time::Duration;

use crate::oracle::{network::To, world::Dice};

/// What happens to one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// The connection breaks before it arrives.
    Cut,
    /// The connection breaks after it has arrived.
    CutAfter,
    /// It is lost, and nobody is told.
    Drop,
    Twice,
    /// It, and everything behind it, comes so much later.
    Late(Duration),
    /// It comes after the next one.
    Swap,
    /// Its payload ends after so many bytes.
    Truncate(usize),
    /// The initiator's node stops without a word, and starts again.
    CrashInitiator,
    CrashAcceptor,
}

/// Something that goes wrong at the nth frame that one side receives, counted from 0 over everything it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) to: To,
    pub(crate) nth: u32,
    pub(crate) harm: Harm,
}

/// The faults of a seed.
pub(crate) fn schedule(seed: u64) -> Vec<Fault> {
    let mut dice = Dice::new(seed);
    let count = 1 + dice.below(4);
    // Most schedules keep to what a network does under TLS, so that runs get far; the others to what it cannot do.
    let honest = dice.chance(70);
    (0..count)
        .map(|_| {
            let to = if dice.chance(50) {
                To::Acceptor
            } else {
                To::Initiator
            };
            let nth = dice.below(24) as u32;
            let late = Duration::from_secs([1, 20, 70, 200][dice.below(4) as usize]);
            let harm = match dice.below(if honest { 6 } else { 10 }) {
                0 => Harm::Cut,
                1 => Harm::CutAfter,
                2 => Harm::Late(late),
                3 => Harm::CrashInitiator,
                4 => Harm::CrashAcceptor,
                5 => Harm::Cut,
                6 => Harm::Drop,
                7 => Harm::Twice,
                8 => Harm::Swap,
                _ => Harm::Truncate(dice.below(80) as usize),
            };
            Fault { to, nth, harm }
        })
        .collect()
}
