//! Files of customers, sent as they are: the node reads them.

use std::{
    io,
    path::{Path, PathBuf},
};

use futures::{
    channel::oneshot,
    future,
    stream::{self, Stream, StreamExt as _},
};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::{
    Client, Error, UpsertReport,
    v1::{self, import_customers_request::Part},
};

named_enum! {
    /// How a file of customers is written.
    ImportFormat of v1::ImportFormat {
        /// Comma-separated values with a header line.
        Csv = "csv",
        /// One JSON object a line.
        Ndjson = "ndjson",
        /// Apache Parquet.
        Parquet = "parquet",
    }
}

impl ImportFormat {
    /// The format that a file's extension promises.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// How to import a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// What errors call the file.
    pub file_name: String,
    /// How it is written.
    pub format: ImportFormat,
    /// ISO 3166-1 alpha-2 region of telephone numbers without a country code; the node's if unset.
    pub default_region: Option<String>,
    /// Delete every customer that the file does not name.
    pub replace_all: bool,
}

/// Bytes a message.
const CHUNK_BYTES: usize = 256 << 10;

impl Client {
    /// Imports a file, all or nothing. `on_sent` learns how many bytes have left so far.
    ///
    /// # Errors
    /// What reading `content` or the node reports, or the way there; then nothing was changed.
    pub async fn import_customers(
        &self,
        import: Import,
        content: impl AsyncRead + Send + Unpin + 'static,
        mut on_sent: impl FnMut(u64) + Send + 'static,
    ) -> Result<UpsertReport, Error> {
        let path = PathBuf::from(&import.file_name);
        let header = v1::ImportHeader {
            file_name: import.file_name,
            format: import.format.to_proto(),
            default_region: import.default_region.unwrap_or_default(),
            replace_all: import.replace_all,
        };
        let (report, broken) = oneshot::channel();
        let mut report = Some(report);
        let mut sent = 0;
        let chunks = chunks(content).filter_map(move |chunk| {
            let part = match chunk {
                Ok(chunk) => {
                    sent += chunk.len() as u64;
                    on_sent(sent);
                    Some(Part::Chunk(chunk))
                }
                Err(error) => {
                    if let Some(report) = report.take() {
                        let _ = report.send(error);
                    }
                    None
                }
            };
            future::ready(part)
        });
        let parts = stream::once(future::ready(Part::Header(header)))
            .chain(chunks)
            .map(|part| v1::ImportCustomersRequest { part: Some(part) });
        let mut api = self.customer_api();
        let call = self.answer_within(
            self.transfer_timeout,
            api.import_customers(self.transfer_request(parts)),
        );
        // A file that cannot be read to its end must not look like one that ended: the call is dropped, not finished.
        tokio::select! {
            biased;
            Ok(error) = broken => Err(Error::file(&path, error)),
            answer = call => {
                let answer = answer?;
                Ok(UpsertReport {
                    inserted: answer.inserted,
                    updated: answer.updated,
                    unchanged: answer.unchanged,
                    deleted: answer.deleted,
                    unusable_identifiers: answer.unusable_identifiers.into_iter().collect(),
                })
            }
        }
    }
}

/// The chunks of a reader; after an error it neither ends nor goes on.
fn chunks(
    content: impl AsyncRead + Send + Unpin + 'static,
) -> impl Stream<Item = io::Result<Vec<u8>>> + Send {
    stream::unfold((content, false), |(mut content, broken)| async move {
        if broken {
            return future::pending().await;
        }
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let read = (&mut content)
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut chunk)
            .await;
        match read {
            Ok(0) => None,
            Ok(_) => Some((Ok(chunk), (content, false))),
            Err(error) => Some((Err(error), (content, true))),
        }
    })
}
