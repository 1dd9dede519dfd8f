//! Calls that take a stream: all of it, or nothing.

use std::{
    borrow::Cow,
    io::{self, Read},
};

use overlap_crypto::terms::KeyType;
use overlap_proto::v1::{
    Customer, DeleteCustomersRequest, ImportCustomersRequest, UpsertCustomersRequest,
    import_customers_request::Part,
};

use super::Customers;
use crate::{
    customers::{
        apply,
        draft::{self, Block, Draft, Encoder, Fault, Place, excerpt},
        files::Format,
        import::{self, ImportOptions, ImportSummary, Source},
        limits,
        spool::Spool,
        stages,
    },
    error::Error,
    streams::{Closing, Messages},
};

/// Ids that one stream may delete.
const MAX_DELETED: usize = 1_000_000;

impl Closing for UpsertCustomersRequest {
    fn is_last(&self) -> bool {
        self.last
    }
}

impl Closing for ImportCustomersRequest {
    fn is_last(&self) -> bool {
        self.last
    }
}

impl Closing for DeleteCustomersRequest {
    fn is_last(&self) -> bool {
        self.last
    }
}

/// The error for a message whose items are too many.
fn check_length(field: &str, length: usize) -> Result<(), Error> {
    if length <= limits::MAX_MESSAGE_ROWS {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        format!(
            "{length} in one message: at most {} are allowed",
            limits::MAX_MESSAGE_ROWS
        ),
    ))
}

/// Bits of an origin that number a customer inside its message.
const INDEX_BITS: u32 = 16;

/// Inserts or replaces the customers of a stream.
pub(super) fn upsert(
    service: &Customers,
    mut messages: Messages<UpsertCustomersRequest>,
) -> Result<ImportSummary, Error> {
    let known = service.store.read_blocking(stages::numbered)?;
    let mut spool = Spool::new(&service.store)?;
    let mut encoder = Encoder::new(&known, service.default_region);
    let mut replace_all = false;
    let mut scratch = Vec::new();
    let mut number = 0u64;
    while let Some(message) = messages.next()? {
        number += 1;
        let in_message = |error: Error| error.with("message", number);
        if number == 1 {
            encoder = Encoder::new(&known, service.region(&message.default_region)?);
            replace_all = message.replace_all;
        } else if !message.default_region.is_empty() || message.replace_all {
            let field = if message.replace_all {
                "replace_all"
            } else {
                "default_region"
            };
            return Err(in_message(Error::invalid(
                field,
                "only the first message of a stream may set it",
            )));
        }
        check_length("customers", message.customers.len()).map_err(in_message)?;
        let mut block = Block::default();
        for (index, customer) in message.customers.iter().enumerate() {
            let origin = number << INDEX_BITS | index as u64;
            encoder
                .encode(&draft_of(customer), origin, &mut block, &mut scratch)
                .map_err(|fault| in_message(fault_at(index, fault)))?;
        }
        spool.push(block)?;
    }
    if spool.rows == 0 && replace_all {
        return Err(Error::invalid(
            "replace_all",
            "the stream has no customers, so every customer would be deleted: use DeleteCustomers if that is meant",
        ));
    }
    let duplicate = |id: &str, first: u64, second: u64| {
        let index = |origin: u64| origin & ((1 << INDEX_BITS) - 1);
        Error::invalid(
            format!("customers[{}].id", index(second)),
            format!(
                "\"{id}\" is customers[{}] of message {} already",
                index(first),
                first >> INDEX_BITS
            ),
        )
        .with("message", second >> INDEX_BITS)
    };
    let unusable = spool.unusable;
    let mut merge = spool.merge()?;
    let applied = import::write(
        &service.store,
        &*service.clock,
        &mut merge,
        replace_all,
        &duplicate,
        &mut |_| (),
    )?;
    Ok(ImportSummary::new(applied, &unusable, Vec::new()))
}

fn draft_of(customer: &Customer) -> Draft<'_> {
    let text = |text| Cow::Borrowed(str::as_ref(text));
    let mut identifiers = Vec::new();
    for (key_type, values) in [
        (KeyType::Email, &customer.emails),
        (KeyType::Phone, &customer.phones),
        (KeyType::Domain, &customer.domains),
        (KeyType::ExternalId, &customer.external_ids),
    ] {
        for (index, value) in values.iter().enumerate() {
            identifiers.push((key_type, index, Cow::Borrowed(value.as_str())));
        }
    }
    let mut fields: Vec<(Cow<'_, str>, Cow<'_, str>)> = customer
        .fields
        .iter()
        .filter(|(_, value)| !value.trim().is_empty())
        .map(|(name, value)| (Cow::Borrowed(name.as_str()), Cow::Borrowed(value.trim())))
        .collect();
    fields.sort_unstable();
    Draft {
        id: text(&customer.id),
        stage: text(&customer.stage),
        name: text(&customer.name),
        owner: text(&customer.owner),
        industry: text(&customer.industry),
        region: text(&customer.region),
        private: customer.private,
        identifiers,
        fields,
    }
}

fn fault_at(index: usize, fault: Fault) -> Error {
    let customer = format!("customers[{index}]");
    let path = match fault.place {
        Place::Id => format!("{customer}.id"),
        Place::Stage => format!("{customer}.stage"),
        Place::Name => format!("{customer}.name"),
        Place::Owner => format!("{customer}.owner"),
        Place::Industry => format!("{customer}.industry"),
        Place::Region => format!("{customer}.region"),
        Place::Identifier(key_type, value) => {
            let list = match key_type {
                KeyType::ExternalId => "external_ids",
                KeyType::Email => "emails",
                KeyType::Phone => "phones",
                KeyType::Domain => "domains",
            };
            format!("{customer}.{list}[{value}]")
        }
        Place::Identifiers => customer,
        Place::Field(name) => format!("{customer}.fields[\"{}\"]", excerpt(&name)),
        Place::Fields => format!("{customer}.fields"),
    };
    Error::invalid(path, fault.problem)
}

/// Deletes the customers whose ids a stream names.
pub(super) fn delete(
    service: &Customers,
    mut messages: Messages<DeleteCustomersRequest>,
) -> Result<u64, Error> {
    let mut ids = Vec::new();
    let mut number = 0u64;
    while let Some(message) = messages.next()? {
        number += 1;
        check_length("ids", message.ids.len()).map_err(|error| error.with("message", number))?;
        for (index, id) in message.ids.iter().enumerate() {
            let id = draft::id(id).map_err(|problem| {
                Error::invalid(format!("ids[{index}]"), problem).with("message", number)
            })?;
            ids.push(id.to_owned());
        }
        if ids.len() > MAX_DELETED {
            return Err(Error::invalid(
                "ids",
                format!(
                    "more than {MAX_DELETED} in one stream: use several, or import with replace_all"
                ),
            ));
        }
    }
    ids.sort_unstable();
    ids.dedup();
    service
        .store
        .write_blocking(|transaction| apply::delete(transaction, &ids, service.clock.now()))
}

/// Imports the file that a stream carries.
pub(super) fn import(
    service: &Customers,
    mut messages: Messages<ImportCustomersRequest>,
) -> Result<ImportSummary, Error> {
    let Some(Part::Start(start)) = messages.next()?.and_then(|message| message.part) else {
        return Err(Error::invalid(
            "start",
            "the first message of the stream says what the file is",
        ));
    };
    let file = file_name(&start.file_name)?;
    let format = Format::find(&start.format, file)?;
    let options = ImportOptions {
        default_region: service.region(&start.default_region)?,
        replace_all: start.replace_all,
    };
    let mut bytes = Bytes {
        messages,
        chunk: Vec::new(),
        at: 0,
        error: None,
        ended: false,
        size: start.size_bytes,
        taken: 0,
    };
    let result = import::import_reader(
        &service.store,
        &*service.clock,
        Source {
            file,
            format,
            reader: &mut bytes,
            total_bytes: start.size_bytes,
        },
        &options,
        &mut |_| (),
    );
    // What broke the stream says more than that the file cannot be read.
    match bytes.error {
        Some(error) => Err(error),
        None => result,
    }
}

/// The name that errors use; paths of the caller's machine are cut off.
fn file_name(name: &str) -> Result<&str, Error> {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    if name.is_empty() || name.len() > limits::MAX_ID_BYTES || name.chars().any(char::is_control) {
        return Err(Error::invalid(
            "start.file_name",
            format!(
                "give a name of 1 to {} bytes without control characters",
                limits::MAX_ID_BYTES
            ),
        ));
    }
    Ok(name)
}

/// The bytes of an imported file.
struct Bytes {
    messages: Messages<ImportCustomersRequest>,
    chunk: Vec<u8>,
    at: usize,
    error: Option<Error>,
    ended: bool,
    /// How many there must be.
    size: Option<u64>,
    /// How many there were.
    taken: u64,
}

impl Bytes {
    fn next_chunk(&mut self) -> Result<(), Error> {
        let wrong_size = |carried: String| {
            Error::invalid(
                "start.size_bytes",
                format!("the stream carried {carried}: nothing was changed"),
            )
        };
        match self.messages.next()? {
            None => match self.size {
                Some(size) if size != self.taken => {
                    return Err(wrong_size(format!("{} bytes, not {size}", self.taken)));
                }
                _ => self.ended = true,
            },
            Some(ImportCustomersRequest {
                part: Some(Part::Chunk(chunk)),
                ..
            }) => {
                self.taken += chunk.len() as u64;
                if let Some(size) = self.size.filter(|size| self.taken > *size) {
                    return Err(wrong_size(format!("more than {size} bytes")));
                }
                self.chunk = chunk;
                self.at = 0;
            }
            // The end says nothing else.
            Some(ImportCustomersRequest {
                part: None,
                last: true,
            }) => {}
            Some(_) => {
                return Err(Error::invalid(
                    "chunk",
                    "every message after the first, but an empty last one, carries bytes of the file",
                ));
            }
        }
        Ok(())
    }
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() && !self.ended {
            if let Err(error) = self.next_chunk() {
                self.error = Some(error);
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        let length = buffer.len().min(self.chunk.len() - self.at);
        buffer[..length].copy_from_slice(&self.chunk[self.at..][..length]);
        self.at += length;
        Ok(length)
    }
}
