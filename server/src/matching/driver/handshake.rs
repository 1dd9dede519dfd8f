//! Hellos and confirmations (PROTOCOL.md "Handshake").

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use overlap_crypto::{
    context::RunId,
    fault::Fault,
    handshake::{EpochKey, Handshake, Hello, Mode, PeerState, Session},
    plan::{Plan, Role},
    terms::{SideTerms, Tier},
    transcript::{Inbound, Outbound},
    voprf::SecretKey,
    wire::{ConfirmBody, Flow, Frame as WireFrame, FrameKind},
};
use overlap_proto::exchange::v1::Frame;

use super::{REASON_PATIENCE, Run, RunDirectory, RunLink, delta, lock, prepare::Prepared, wire};
use crate::{
    audit,
    error::{Error, Reason},
    matching::{
        compute::fresh_rng,
        failure::{Failure, misused},
        keys::{self, random},
        ledger::{Budget, Declared, Ledger},
        local_customers::KeyCounts,
        records,
        terms::RunTerms,
    },
};

/// Agrees on a session.
pub(super) async fn handshake(
    run: &Run,
    link: &mut RunLink,
    directory: &Arc<RunDirectory>,
) -> Result<(Session, Prepared, Outbound, Inbound), Failure> {
    let role = link.role();
    let Greeted {
        prepared,
        handshake,
        peer_payload,
        owed,
    } = match role {
        Role::Initiator => greet(run, link, directory).await?,
        Role::Acceptor => answer(run, link, directory).await?,
    };
    let peer_state = PeerState {
        organization_key: run.parties.partner_key,
        highest_epoch: prepared.state.highest_epoch,
    };
    let confirming = handshake.receive(
        &peer_payload,
        &peer_state,
        &prepared.terms.terms,
        &link.exporter,
    )?;
    if let Some(delta) = &prepared.delta
        && !delta::agrees(&delta.kept, &prepared.terms, confirming.session().peer())
    {
        return Err(Fault::FullRunRequired.into());
    }
    if let Some(hello) = owed {
        send(link, wire::unnumbered(FrameKind::Hello, hello)).await?;
    }
    let mut outbound = Outbound::new(confirming.session());
    let mut inbound = Inbound::new(confirming.session());
    let confirm = confirming.confirm(run.parties.signer.as_ref());
    let frame = outbound.frame(Flow::Session, FrameKind::Confirm, &confirm)?;
    let frame = Frame {
        flow: frame.flow.code().into(),
        kind: frame.kind.code().into(),
        sequence: frame.sequence,
        payload: Bytes::copy_from_slice(frame.payload),
    };
    send(link, frame).await?;
    let frame = receive(run, link, FrameKind::Confirm).await?;
    let wire_frame = WireFrame::from_raw(frame.flow, frame.kind, frame.sequence, &frame.payload)?;
    inbound.admit(&link.run_id, &wire_frame)?;
    let session = confirming.receive(&ConfirmBody::decode(&frame.payload)?)?;
    admit(run, &prepared, &session).await?;
    Ok((session, prepared, outbound, inbound))
}

/// Both hellos that count, and what this side's was made from.
struct Greeted {
    prepared: Prepared,
    handshake: Handshake,
    peer_payload: Bytes,
    /// This side's hello, to be sent once the partner's is found good.
    owed: Option<Vec<u8>>,
}

async fn prepare(
    run: &Run,
    directory: &Arc<RunDirectory>,
    role: Role,
    mode: Mode,
) -> Result<Prepared, Failure> {
    let (run, directory) = (run.clone(), Arc::clone(directory));
    run.pool
        .clone()
        .run(move || Ok(Prepared::read(&run, &directory, role, mode)?))
        .await
}

/// The initiator says hello first. It asks for a delta run if it can go on from the last one; a partner that cannot answers
/// with the hello of a full run, and the initiator says hello again.
async fn greet(
    run: &Run,
    link: &mut RunLink,
    directory: &Arc<RunDirectory>,
) -> Result<Greeted, Failure> {
    let wanted = if run.full { Mode::Full } else { Mode::Delta };
    let mut prepared = prepare(run, directory, Role::Initiator, wanted).await?;
    let mut handshake = greeting(run, link, Role::Initiator, &prepared)?;
    send(
        link,
        wire::unnumbered(FrameKind::Hello, handshake.payload().to_vec()),
    )
    .await?;
    let answer = receive(run, link, FrameKind::Hello).await?.payload;
    if prepared.mode() == Mode::Delta && Hello::decode(&answer)?.mode == Mode::Full {
        prepared = prepare_anew(run, directory, Role::Initiator, prepared).await?;
        handshake = greeting(run, link, Role::Initiator, &prepared)?;
        send(
            link,
            wire::unnumbered(FrameKind::Hello, handshake.payload().to_vec()),
        )
        .await?;
    }
    Ok(Greeted {
        prepared,
        handshake,
        peer_payload: answer,
        owed: None,
    })
}

/// The acceptor reads its customers while it waits for the hello, unless the hello decides how.
async fn answer(
    run: &Run,
    link: &mut RunLink,
    directory: &Arc<RunDirectory>,
) -> Result<Greeted, Failure> {
    let role = Role::Acceptor;
    let (mut prepared, mut peer_payload) = if run.full || !delta::may(run).await? {
        let prepared = prepare(run, directory, role, Mode::Full).await?;
        (
            prepared,
            receive(run, link, FrameKind::Hello).await?.payload,
        )
    } else {
        let payload = receive(run, link, FrameKind::Hello).await?.payload;
        let wanted = Hello::decode(&payload)?.mode;
        (prepare(run, directory, role, wanted).await?, payload)
    };
    let greeted = Hello::decode(&peer_payload)?;
    if let Some(delta) = &prepared.delta
        && !delta::agrees(&delta.kept, &prepared.terms, &greeted)
    {
        prepared = prepare_anew(run, directory, role, prepared).await?;
    }
    let handshake = greeting(run, link, role, &prepared)?;
    let mut owed = Some(handshake.payload().to_vec());
    if greeted.mode == Mode::Delta
        && prepared.mode() == Mode::Full
        && let Some(hello) = owed.take()
    {
        send(link, wire::unnumbered(FrameKind::Hello, hello)).await?;
        peer_payload = receive(run, link, FrameKind::Hello).await?.payload;
    }
    Ok(Greeted {
        prepared,
        handshake,
        peer_payload,
        owed,
    })
}

/// Reads the customers again, for a full run.
async fn prepare_anew(
    run: &Run,
    directory: &Arc<RunDirectory>,
    role: Role,
    prepared: Prepared,
) -> Result<Prepared, Failure> {
    drop(prepared);
    directory.clear_scratch()?;
    prepare(run, directory, role, Mode::Full).await
}

fn greeting(
    run: &Run,
    link: &RunLink,
    role: Role,
    prepared: &Prepared,
) -> Result<Handshake, Failure> {
    Ok(Handshake::new(
        role,
        hello(run, prepared, RunId(link.run_id))?,
    ))
}

/// Sizes of a full run for the hello: list-tier queries, count-tier queries, tags.
pub(super) fn full_sizes(terms: &RunTerms, side: &SideTerms, counts: KeyCounts) -> [u64; 3] {
    let padded = |tier, count| {
        if terms.mine.has(tier) {
            side.padding.padded(count)
        } else {
            0
        }
    };
    let listed = padded(Tier::List, counts.list);
    [listed, padded(Tier::Count, counts.count), listed]
}

/// This side's hello.
fn hello(run: &Run, prepared: &Prepared, run_id: RunId) -> Result<Hello, Failure> {
    let side = prepared.my_terms(run)?;
    let (me, partner) = (run.parties.me(), run.parties.partner());
    let [list_queries, count_queries, tags] = match &prepared.delta {
        Some(delta) => delta.sizes(),
        None => full_sizes(&prepared.terms, side, prepared.totals.key_counts()),
    };
    let mut nonce = [0; 32];
    random(&mut nonce)?;
    let epoch_key = match &prepared.keys {
        Some(keys) => Some(EpochKey::new(
            &SecretKey::from_bytes(&keys.secret).map_err(misused)?,
            keys.epoch,
            &me,
            &partner,
            &mut fresh_rng()?,
        )),
        None => None,
    };
    let sizes = &prepared.totals.customers_by_stage;
    let mut stage_sizes: Vec<u32> = prepared
        .terms
        .mine
        .iter()
        .filter(|(_, _, tier)| *tier != Tier::Hidden)
        .map(|(index, _, tier)| {
            if tier == Tier::List {
                let size = u32::try_from(sizes[usize::from(index)]).unwrap_or(u32::MAX);
                Hello::round_stage_size(size)
            } else {
                0
            }
        })
        .collect();
    // A side that hides everything names one hidden stage in the terms.
    stage_sizes.resize(side.stages.len(), 0);
    Ok(Hello {
        run: run_id,
        nonce,
        sender: me,
        receiver: partner,
        mode: prepared.mode(),
        terms: prepared.terms.terms.hash(),
        list_querier: prepared.list_querier,
        list_queries,
        count_queries,
        tags,
        run_counter: prepared.state.run_counter,
        receipt_head: prepared.state.receipt_head,
        epoch_key,
        stage_sizes,
        peer_receipt: prepared.state.peer_receipt,
    })
}

/// Checks the session against limits, budgets and history, and remembers what must not change.
async fn admit(run: &Run, prepared: &Prepared, session: &Session) -> Result<(), Failure> {
    if set_size(session) > run.settings.limits.max_keys {
        return Err(Fault::SetTooLarge.into());
    }
    let epochs = keys::directory(&run.node_directory, &run.partnership_id);
    let own_key = run.parties.signer.public_key();
    if session.rolled_back(&own_key)? {
        tracing::error!(
            partnership = run.partnership_id,
            "the partner holds a newer receipt of this node: the store was rolled back; its epoch keys are destroyed"
        );
        keys::destroy(&epochs)?;
        let (partnership, now) = (run.partnership_id.clone(), run.now());
        let newest = session.peer().peer_receipt;
        run.store
            .write(move |tx| {
                // It is this node's own: the chain of receipts goes on from it.
                if let Some(newest) = &newest {
                    records::adopt_own_receipt(tx, &partnership, newest)?;
                }
                let details = [("problem", "the partner holds a newer receipt of this node")];
                audit::record(
                    tx,
                    now,
                    audit::SYSTEM,
                    "budget.rolled_back",
                    Some(&partnership),
                    &details,
                )
            })
            .await?;
        return Err(Error::new(
            Reason::FailedPrecondition,
            "this node's store is older than the partner's receipts: it was restored from a backup. The epoch's keys are destroyed; run again",
        )
        .into());
    }
    require_budgets(run, session, &lock(&prepared.ledger))?;
    let partnership = run.partnership_id.clone();
    let peer_epoch = session.peer_epoch();
    let my_epoch = prepared.keys.as_ref().map(|keys| keys.epoch);
    let i_query = session.list_querier() == session.role();
    let (record, full) = (run.record_id.clone(), prepared.mode() == Mode::Full);
    let in_force = Arc::clone(&run.in_force);
    run.store
        .write(move |tx| {
            // A change of the permissions that came before this is seen here; one that comes after finds the run and cancels it.
            in_force(tx)?;
            records::set_full(tx, &record, full)?;
            if let Some((epoch, key)) = peer_epoch {
                records::pin_epoch(tx, &partnership, epoch, &key)?;
                if let Some(my_epoch) = my_epoch {
                    records::remember_roles(tx, &partnership, my_epoch, epoch, i_query)?;
                }
            }
            Ok(())
        })
        .await?;
    Ok(())
}

/// What the partner asks for has to be within its budgets; it is debited as it is used.
fn require_budgets(run: &Run, session: &Session, ledger: &Ledger) -> Result<(), Error> {
    let (mine, theirs) = (&run.agreement.mine, &run.agreement.theirs);
    let least_s = mine.min_interval_s.max(theirs.min_interval_s);
    ledger.require_interval(run.now(), least_s.into())?;
    ledger.require_growth(declared(session), run.settings.max_growth_percent)?;
    if let Some(flow) = session.evaluating() {
        ledger.require(Budget::Queries, flow.queries)?;
    }
    if let Some(flow) = session.receiving() {
        ledger.require(Budget::Tags, flow.tags)?;
    }
    Ok(())
}

/// Keys that the partner declares, padding included.
fn set_size(session: &Session) -> u64 {
    let peer = session.peer();
    peer.list_queries
        .max(peer.tags)
        .saturating_add(peer.count_queries)
}

/// What the partner brings.
pub(super) fn declared(session: &Session) -> Declared {
    match session.peer().mode {
        Mode::Full => Declared::All(set_size(session)),
        Mode::Delta => Declared::Changes(set_size(session)),
    }
}

async fn send(link: &mut RunLink, frame: Frame) -> Result<(), Failure> {
    if link.outgoing.send(frame).await.is_ok() {
        return Ok(());
    }
    // The partner may have said why it ended the connection.
    match tokio::time::timeout(REASON_PATIENCE, link.incoming.recv()).await {
        Ok(Some(Ok(frame))) if frame.kind == u32::from(FrameKind::Abort.code()) => {
            Err(wire::aborted(&frame.payload))
        }
        Ok(Some(Err(error))) => Err(Failure::link(error)),
        _ => Err(Failure::network(
            "the connection to the partner's node ended",
        )),
    }
}

/// The next frame of the handshake.
async fn receive(run: &Run, link: &mut RunLink, kind: FrameKind) -> Result<Frame, Failure> {
    let seconds = run.settings.handshake_s;
    let frame = tokio::time::timeout(Duration::from_secs(seconds), link.incoming.recv())
        .await
        .map_err(|_| Failure::deadline("the handshake", seconds))?
        .ok_or_else(|| Failure::network("the partner's node closed the connection"))?
        .map_err(Failure::link)?;
    let code = u32::from(kind.code());
    if frame.kind == u32::from(FrameKind::Abort.code()) {
        return Err(wire::aborted(&frame.payload));
    }
    if frame.flow != 0 || frame.kind != code {
        return Err(Fault::UnexpectedFrame.into());
    }
    // "HELLO is frame 0 of flow 0"; what follows it is numbered by the session.
    if kind == FrameKind::Hello && frame.sequence != 0 {
        return Err(Fault::OutOfOrder.into());
    }
    Ok(frame)
}

/// The flows of a plan for people: who queries whom.
pub(super) fn flow_names(plan: &Plan, role: Role) -> Vec<String> {
    let name = |party: Role| if party == role { "we" } else { "partner" };
    let mut names = Vec::new();
    for party in [Role::Initiator, Role::Acceptor] {
        if let Some(queries) = plan.queries(party) {
            let tiers = match (queries.list, queries.count) {
                (true, true) => "list and count",
                (true, false) => "list",
                _ => "count",
            };
            let verb = if party == role { "query" } else { "queries" };
            names.push(format!(
                "list: {} {verb} {} ({tiers} tier)",
                name(party),
                if party == role { "partner" } else { "us" }
            ));
        }
    }
    if plan.count {
        names.push("count".to_owned());
    }
    names
}
