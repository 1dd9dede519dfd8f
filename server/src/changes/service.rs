//! `ChangeService`.

use std::{collections::HashSet, pin::Pin, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::Stream;
use overlap_proto::v1::{
    self, WatchChangesRequest, WatchChangesResponse, change_service_server::ChangeService,
};
use tonic::{Request, Response, Status};

use super::log::{self, Kind};
use crate::{
    auth::{Caller, Role},
    error::{Error, Reason},
    node::Node,
    partnership,
};

/// How often the log is looked at for each watcher.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// After how many looks without a change the cursor is sent again.
const LOOKS_TO_SIGN_OF_LIFE: u32 = 80;
/// Changes read at once.
const BATCH: usize = 256;
/// What a cursor begins with.
const CURSOR: &str = "changes ";

/// `overlap.v1.ChangeService`.
pub struct Service {
    node: Arc<Node>,
}

impl Service {
    /// The service of a node.
    #[must_use]
    pub const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    async fn watch(&self, request: Request<WatchChangesRequest>) -> Result<Watch, Error> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::STAFF)?;
        let request = request.into_inner();
        let mut kinds = HashSet::new();
        for (index, &kind) in request.kinds.iter().enumerate() {
            if kind == 0 || v1::ChangeKind::try_from(kind).is_err() {
                return Err(Error::invalid(
                    format!("kinds[{index}]"),
                    "is not a kind of change",
                ));
            }
            kinds.insert(kind);
        }
        // Numbers of the program are not for everyone (K-27).
        let program_alert = i32::from(Kind::ProgramAlert.to_proto());
        if kinds.contains(&program_alert) {
            caller.require(&Role::MANAGERS)?;
        }
        let withheld = (!Role::MANAGERS.contains(&caller.role)).then_some(program_alert);
        let given = if request.cursor.is_empty() {
            None
        } else {
            Some(read_cursor(&request.cursor)?)
        };
        let (position, partnership) = self
            .node
            .store
            .read(move |connection| {
                let partnership = if request.partner.is_empty() {
                    None
                } else {
                    // What became of a partnership that has ended is worth knowing, too.
                    Some(partnership::find(connection, &request.partner)?.id)
                };
                let position = match given {
                    Some(position) => {
                        log::after(connection, position, 0)?;
                        position
                    }
                    None if request.from_oldest => log::before_oldest(connection)?,
                    None => log::last(connection)?,
                };
                Ok((position, partnership))
            })
            .await?;
        Ok(Watch {
            node: Arc::clone(&self.node),
            position,
            kinds,
            withheld,
            partnership,
            ready: vec![WatchChangesResponse {
                change: None,
                cursor: cursor(position),
            }]
            .into(),
            quiet: 0,
        })
    }
}

struct Watch {
    node: Arc<Node>,
    position: u64,
    /// Those wanted; all if empty.
    kinds: HashSet<i32>,
    /// One that the caller does not get to see.
    withheld: Option<i32>,
    partnership: Option<String>,
    ready: std::collections::VecDeque<WatchChangesResponse>,
    quiet: u32,
}

impl Watch {
    /// The next response; nothing once the node stops.
    async fn next(&mut self) -> Result<Option<WatchChangesResponse>, Error> {
        let mut stopping = Box::pin(self.node.stopping());
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Ok(Some(response));
            }
            let position = self.position;
            let changes = self
                .node
                .store
                .read(move |connection| log::after(connection, position, BATCH))
                .await?;
            let more = changes.len() == BATCH;
            for change in changes {
                self.position = change.sequence;
                if self.admits(&change) {
                    self.ready.push_back(WatchChangesResponse {
                        change: Some(change.to_proto()),
                        cursor: cursor(change.sequence),
                    });
                }
            }
            if more || !self.ready.is_empty() {
                self.quiet = 0;
                continue;
            }
            self.quiet += 1;
            if self.quiet == LOOKS_TO_SIGN_OF_LIFE {
                self.quiet = 0;
                self.ready.push_back(WatchChangesResponse {
                    change: None,
                    cursor: cursor(self.position),
                });
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = &mut stopping => return Ok(None),
            }
        }
    }

    fn admits(&self, change: &log::Change) -> bool {
        self.withheld != Some(change.kind)
            && (self.kinds.is_empty() || self.kinds.contains(&change.kind))
            && self
                .partnership
                .as_ref()
                .is_none_or(|partnership| *partnership == change.partnership)
    }
}

fn cursor(position: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("{CURSOR}{position}"))
}

fn read_cursor(cursor: &str) -> Result<u64, Error> {
    URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix(CURSOR)?.parse().ok())
        .ok_or_else(|| Error::invalid("cursor", "is not one that this call gave"))
}

/// Reads a cursor that a caller hands back.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_cursor(text: &str) {
    let _ = read_cursor(text);
}

#[tonic::async_trait]
impl ChangeService for Service {
    type WatchChangesStream =
        Pin<Box<dyn Stream<Item = Result<WatchChangesResponse, Status>> + Send>>;

    async fn watch_changes(
        &self,
        request: Request<WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let watch = self.watch(request).await?;
        let responses = futures::stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(Some(response)) => Some((Ok(response), Some(watch))),
                // Who resumes after that finds the node again.
                Ok(None) => Some((
                    Err(
                        Error::new(Reason::NodeStopping, "the node is stopping: resume later")
                            .into(),
                    ),
                    None,
                )),
                Err(error) => Some((Err(error.into()), None)),
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip() {
        assert_eq!(read_cursor(&cursor(u64::MAX)).unwrap(), u64::MAX);
        for wrong in ["x", "Y2hhbmdlcyA", &URL_SAFE_NO_PAD.encode("changes -1")] {
            assert!(read_cursor(wrong).is_err());
        }
    }
}
