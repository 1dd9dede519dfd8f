//! Files of customers, sent as they are: the node reads them.

use std::path::{Path, PathBuf};

use futures::{
    future::{self, FutureExt as _},
    stream::{self, Stream, StreamExt as _, TryStreamExt as _},
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::{
    Client, Error, UpsertReport,
    transfer::ended,
    v1::{self, import_customers_request::Part},
};

/// How a file of customers is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ImportFormat {
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
}

impl ImportFormat {
    /// Every format.
    pub const ALL: &'static [Self] = &[Self::Csv, Self::Ndjson, Self::Parquet];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
        }
    }

    /// The format with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|format| format.name() == name)
    }

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
    /// How large the file is, if known; the node refuses one of another size.
    pub size_bytes: Option<u64>,
}

/// What importing a file changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImportReport {
    /// What became of the customers.
    #[serde(flatten)]
    pub customers: UpsertReport,
    /// The columns that became fields.
    pub field_columns: Vec<String>,
}

/// Bytes a message.
const CHUNK_BYTES: usize = 256 << 10;

impl Client {
    /// Imports a file, all or nothing. `on_sent` learns how many bytes have left so far.
    ///
    /// # Errors
    /// What reading `content` or the node reports, or the way there; then nothing was changed.
    pub fn import_customers(
        &self,
        import: Import,
        content: impl AsyncRead + Send + Unpin + 'static,
        on_sent: impl FnMut(u64) + Send + 'static,
    ) -> impl Future<Output = Result<ImportReport, Error>> + Send {
        let path = PathBuf::from(&import.file_name);
        let start = Part::Start(v1::ImportCustomersStart {
            file_name: import.file_name,
            format: import.format.name().to_owned(),
            default_region: import.default_region.unwrap_or_default(),
            replace_all: import.replace_all,
            size_bytes: import.size_bytes,
        });
        let parts = stream::once(future::ready(Ok(start)))
            .chain(chunks(path, content, on_sent).map_ok(Part::Chunk))
            .map_ok(|part| v1::ImportCustomersRequest {
                part: Some(part),
                last: false,
            });
        let last = v1::ImportCustomersRequest {
            part: None,
            last: true,
        };
        let refused = v1::ImportCustomersRequest::default();
        let (request, cause) = self.upload(ended(parts, last), refused);
        async move {
            let mut api = self.customer_api();
            let answer = self
                .uploaded(cause, api.import_customers(request).boxed())
                .await?;
            Ok(ImportReport {
                customers: UpsertReport {
                    inserted: answer.inserted,
                    updated: answer.updated,
                    unchanged: answer.unchanged,
                    deleted: answer.deleted,
                    unusable_identifiers: answer.unusable_identifiers.into_iter().collect(),
                },
                field_columns: answer.field_columns,
            })
        }
    }
}

/// The bytes of a file, piece by piece. `on_sent` learns how many have left so far.
pub(crate) fn chunks(
    path: PathBuf,
    content: impl AsyncRead + Send + Unpin + 'static,
    on_sent: impl FnMut(u64) + Send + 'static,
) -> impl Stream<Item = Result<Vec<u8>, Error>> + Send + 'static {
    let state = (path, content, on_sent, 0);
    stream::try_unfold(state, |(path, mut content, mut on_sent, sent)| async move {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let read = (&mut content)
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut chunk)
            .await
            .map_err(|error| Error::file(&path, error))?;
        if read == 0 {
            return Ok(None);
        }
        let sent = sent + read as u64;
        on_sent(sent);
        Ok(Some((chunk, (path, content, on_sent, sent))))
    })
}
