//! Cuts a stream of bytes into chunks of whole records.

use std::io::{self, Read};

use super::{Format, Position, error_at, error_of, unreadable};
use crate::{customers::limits, error::Error};

/// What a chunk holds as a rule.
const CHUNK_BYTES: usize = 512 * 1024;

/// Whole records.
pub(crate) struct Chunk {
    pub(crate) bytes: Vec<u8>,
    /// Where the records start; before it may be a header.
    pub(crate) start: usize,
    /// The line at `start`.
    pub(crate) line: u64,
}

/// Reads chunks.
pub(crate) struct ChunkReader<'a> {
    file: &'a str,
    format: Format,
    reader: &'a mut (dyn Read + Send),
    chunk_bytes: usize,
    pending: Vec<u8>,
    line: u64,
    at_start: bool,
    at_end: bool,
}

impl<'a> ChunkReader<'a> {
    pub(crate) fn new(file: &'a str, format: Format, reader: &'a mut (dyn Read + Send)) -> Self {
        Self::with_chunk_bytes(file, format, reader, CHUNK_BYTES)
    }

    fn with_chunk_bytes(
        file: &'a str,
        format: Format,
        reader: &'a mut (dyn Read + Send),
        chunk_bytes: usize,
    ) -> Self {
        Self {
            file,
            format,
            reader,
            chunk_bytes,
            pending: Vec::new(),
            line: 1,
            at_start: true,
            at_end: false,
        }
    }

    /// The next chunk.
    ///
    /// # Errors
    /// `FILE_UNREADABLE`; `INVALID_ARGUMENT` if a record is too long or the text is not UTF-8 by its first bytes.
    pub(crate) fn next(&mut self) -> Result<Option<Chunk>, Error> {
        let mut wanted = self.chunk_bytes;
        loop {
            self.fill(wanted)?;
            if self.at_start {
                self.at_start = false;
                self.start_of_file()?;
            }
            if self.at_end {
                return Ok((!self.pending.is_empty()).then(|| self.take(self.pending.len())));
            }
            let cut = match self.format {
                Format::Csv => last_record_end(&self.pending),
                Format::Ndjson | Format::Parquet => {
                    memchr::memrchr(b'\n', &self.pending).map(|at| at + 1)
                }
            };
            if let Some(cut) = cut {
                return Ok(Some(self.take(cut)));
            }
            if self.pending.len() > limits::MAX_RECORD_BYTES {
                let hint = if self.format == Format::Csv {
                    ": is a quotation mark not closed?"
                } else {
                    ""
                };
                return Err(error_at(
                    self.file,
                    Position {
                        line: self.line,
                        column: None,
                    },
                    format!(
                        "the record that starts here is longer than {} bytes{hint}",
                        limits::MAX_RECORD_BYTES
                    ),
                ));
            }
            wanted = self.pending.len() + self.chunk_bytes;
        }
    }

    /// Drops a byte order mark, and refuses files that are in another encoding.
    fn start_of_file(&mut self) -> Result<(), Error> {
        if self.pending.starts_with(b"\xef\xbb\xbf") {
            self.pending.drain(..3);
        }
        if self.pending.starts_with(b"\xff\xfe") || self.pending.starts_with(b"\xfe\xff") {
            return Err(error_of(
                self.file,
                "the file is in UTF-16: save it as UTF-8",
            ));
        }
        if self.pending.is_empty() {
            return Err(error_of(self.file, "the file is empty"));
        }
        Ok(())
    }

    fn take(&mut self, cut: usize) -> Chunk {
        let rest = self.pending.split_off(cut);
        let bytes = std::mem::replace(&mut self.pending, rest);
        let line = self.line;
        self.line += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        Chunk {
            bytes,
            start: 0,
            line,
        }
    }

    fn fill(&mut self, wanted: usize) -> Result<(), Error> {
        if self.pending.capacity() < wanted {
            self.pending.reserve_exact(wanted - self.pending.len());
        }
        while !self.at_end && self.pending.len() < wanted {
            let missing = (wanted - self.pending.len()) as u64;
            match Read::take(&mut *self.reader, missing).read_to_end(&mut self.pending) {
                Ok(0) => self.at_end = true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(self.file, &error)),
            }
        }
        Ok(())
    }
}

/// Where the last whole record of CSV text ends.
fn last_record_end(bytes: &[u8]) -> Option<usize> {
    if memchr::memchr(b'"', bytes).is_none() {
        return memchr::memrchr(b'\n', bytes).map(|at| at + 1);
    }
    let mut end = None;
    let mut at = 0;
    loop {
        // At the start of a value.
        if bytes.get(at) == Some(&b'"') {
            at += 1;
            loop {
                let Some(quote) = memchr::memchr(b'"', &bytes[at..]) else {
                    return end;
                };
                at += quote + 1;
                if bytes.get(at) != Some(&b'"') {
                    break;
                }
                at += 1;
            }
        }
        let Some(stop) = memchr::memchr2(b',', b'\n', &bytes[at..]) else {
            return end;
        };
        at += stop + 1;
        if bytes[at - 1] == b'\n' {
            end = Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(text: &str, format: Format, chunk_bytes: usize) -> Vec<(String, u64)> {
        let mut bytes = text.as_bytes();
        let mut reader = ChunkReader::with_chunk_bytes("f", format, &mut bytes, chunk_bytes);
        let mut chunks = Vec::new();
        while let Some(chunk) = reader.next().unwrap() {
            chunks.push((String::from_utf8(chunk.bytes).unwrap(), chunk.line));
        }
        chunks
    }

    #[test]
    fn chunks_end_where_records_end() {
        assert_eq!(
            chunks("a,b\nc,\"d\n,\"\"\ne\"\nf\ng", Format::Csv, 5),
            [
                ("a,b\n".to_owned(), 1),
                ("c,\"d\n,\"\"\ne\"\nf\n".to_owned(), 2),
                ("g".to_owned(), 6)
            ]
        );
        assert_eq!(
            chunks("\u{feff}{\"\n{\n[\n", Format::Ndjson, 4),
            [("{\"\n{\n".to_owned(), 1), ("[\n".to_owned(), 3)]
        );
    }
}
