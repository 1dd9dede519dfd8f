//! The pages of a row group, each checked before it is decompressed and before the parquet crate decodes it.

use std::{
    collections::VecDeque,
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding},
    bloom_filter::Sbbf,
    column::page::{Page, PageMetadata, PageReader},
    errors::ParquetError,
    file::{metadata::RowGroupMetaData, reader::RowGroupReader},
    record::reader::RowIter,
    schema::types::{ColumnDescPtr, Type},
};

use super::{
    BATCH_ROWS, Refused, codec,
    header::{DATA, DATA_2, DICTIONARY, Header, encoding, size},
    thrift::Fault,
    values::{self, Lists},
};

/// Bytes of a page before or after decompression; writers aim at 1 MiB.
const MAX_PAGE_BYTES: u64 = 128 << 20;
/// Bytes of all pages that a row group's columns hold at once.
const MAX_HELD_BYTES: u64 = 512 << 20;
/// Bytes that a column of lists may need for rows read ahead and for the row at hand, as [`super::BATCH_ROWS`] and the bounds
/// of [`values`] have it.
const LISTS_BYTES: u64 = 20 << 20;
/// Bytes that all pages of a file may decompress to.
const MAX_DECOMPRESSED_BYTES: u64 = 256 << 30;
/// Bytes of a page's header, which may hold a smallest and a largest text.
const MAX_HEADER_BYTES: u64 = 1 << 20;
/// Bytes that most headers fit in.
const HEADER_BYTES: u64 = 512;

/// What the readers of a row group's columns have come to.
pub(super) struct Progress {
    /// Bytes of the pages at hand.
    held: AtomicU64,
    /// Bytes of all pages of the file so far.
    decompressed: Arc<AtomicU64>,
    /// Values, null or not, and rows of each column so far.
    columns: Vec<(AtomicU64, AtomicU64)>,
}

/// Counts bytes, as long as there are no more than `most` of them.
fn count(
    total: &AtomicU64,
    bytes: u64,
    most: u64,
    problem: impl FnOnce() -> String,
) -> Result<(), Refused> {
    let before = total.fetch_add(bytes, Ordering::Relaxed);
    if before.saturating_add(bytes) > most {
        return Err(Refused::limit(problem()));
    }
    Ok(())
}

impl Progress {
    fn hold(&self, bytes: u64) -> Result<(), Refused> {
        count(&self.held, bytes, MAX_HELD_BYTES, || {
            format!(
                "the Parquet file needs more than {MAX_HELD_BYTES} bytes of memory for one page of each column: write smaller pages or fewer columns"
            )
        })
    }

    fn decompress(&self, bytes: u64) -> Result<(), Refused> {
        count(&self.decompressed, bytes, MAX_DECOMPRESSED_BYTES, || {
            format!(
                "the Parquet file decompresses to more than {MAX_DECOMPRESSED_BYTES} bytes: import it in parts"
            )
        })
    }

    fn release(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A row group whose pages are checked.
pub(super) struct Group<'a> {
    file: Arc<File>,
    metadata: &'a RowGroupMetaData,
    progress: Arc<Progress>,
}

impl<'a> Group<'a> {
    /// A row group of a file of which `decompressed` bytes have been read.
    pub(super) fn new(
        file: Arc<File>,
        metadata: &'a RowGroupMetaData,
        decompressed: Arc<AtomicU64>,
    ) -> Self {
        let columns = metadata.columns().iter().map(|_| Default::default());
        let progress = Progress {
            held: AtomicU64::new(0),
            decompressed,
            columns: columns.collect(),
        };
        Self {
            file,
            metadata,
            progress: Arc::new(progress),
        }
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

/// Checks, once all rows of a group have been read, that its columns had no more and no fewer.
pub(super) fn check_end(metadata: &RowGroupMetaData, progress: &Progress) -> Result<(), Refused> {
    for (column, (values, rows)) in metadata.columns().iter().zip(&progress.columns) {
        let (values, rows) = (values.load(Ordering::Relaxed), rows.load(Ordering::Relaxed));
        if values != column.num_values().cast_unsigned()
            || rows != metadata.num_rows().cast_unsigned()
        {
            return Err(Refused::damaged(format!(
                "column \"{}\" has {values} values in {rows} rows, not {} in {}",
                column.column_path().string(),
                column.num_values(),
                metadata.num_rows()
            )));
        }
    }
    Ok(())
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.metadata
    }

    fn num_columns(&self) -> usize {
        self.metadata.num_columns()
    }

    fn get_column_page_reader(&self, index: usize) -> Result<Box<dyn PageReader>, ParquetError> {
        let column = self.metadata.column(index);
        let (start, length) = column.byte_range();
        let descriptor = column.column_descr_ptr();
        if descriptor.max_rep_level() > 0 {
            self.progress.hold(LISTS_BYTES)?;
        }
        Ok(Box::new(Pages {
            file: Arc::clone(&self.file),
            descriptor,
            codec: column.compression(),
            at: start,
            end: start + length,
            values: column.num_values().cast_unsigned(),
            lists: Lists::default(),
            seen: 0,
            has_dictionary: false,
            next: None,
            index,
            progress: Arc::clone(&self.progress),
            held: VecDeque::new(),
        }))
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>, ParquetError> {
        RowIter::from_row_group(projection, self)
    }
}

/// The pages of a column.
struct Pages {
    file: Arc<File>,
    descriptor: ColumnDescPtr,
    codec: Compression,
    /// Where the next header, or after [`Pages::peek`] its page, begins, and where the column ends.
    at: u64,
    end: u64,
    /// Values the column says it has, null or not.
    values: u64,
    seen: u64,
    lists: Lists,
    has_dictionary: bool,
    next: Option<Header>,
    /// The column's number in [`Progress::columns`].
    index: usize,
    progress: Arc<Progress>,
    /// The data pages that rows read ahead may still refer to: the row that each ends with, and its bytes.
    held: VecDeque<(u64, u64)>,
}

/// A problem of a page; its place is added where it is known.
fn wrong<T>(problem: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::damaged(problem.into()))
}

impl Pages {
    /// The next page's header, if there is one.
    fn peek(&mut self) -> Result<Option<Header>, Refused> {
        if self.next.is_some() || self.at == self.end {
            return Ok(self.next);
        }
        let mut window = HEADER_BYTES;
        loop {
            let bytes = self.read(self.at, window.min(self.end - self.at))?;
            match Header::read(&bytes) {
                Ok((header, length)) => {
                    self.at += length as u64;
                    self.next = Some(header);
                    return Ok(self.next);
                }
                Err(Fault::Short) if self.at + window < self.end && window < MAX_HEADER_BYTES => {
                    window = (8 * window).min(MAX_HEADER_BYTES);
                }
                Err(Fault::Short) => return wrong("a page's header is cut short"),
                Err(Fault::Malformed(problem)) => {
                    return wrong(format!("in a page's header {problem}"));
                }
            }
        }
    }

    fn read(&self, at: u64, length: u64) -> Result<Vec<u8>, Refused> {
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| Refused::contradiction())?];
        self.file
            .read_exact_at(&mut bytes, at)
            .map_err(Refused::Copy)?;
        Ok(bytes)
    }

    fn next_page(&mut self) -> Result<Option<Page>, Refused> {
        let Some(header) = self.peek()? else {
            return Ok(None);
        };
        self.next = None;
        let size_before = size(header.compressed, "a size of")?;
        let size_after = size(header.bytes, "a size of")?;
        if size_before > self.end - self.at {
            return wrong(format!(
                "a page of {size_before} bytes lies in {} bytes",
                self.end - self.at
            ));
        }
        let largest = size_before.max(size_after);
        if largest > MAX_PAGE_BYTES {
            return Err(Refused::limit(format!(
                "a page has {largest} bytes; {MAX_PAGE_BYTES} are the limit: write smaller pages"
            )));
        }
        while let Some((end, bytes)) = self.held.front()
            && end + BATCH_ROWS as u64 <= self.lists.rows
        {
            self.progress.release(*bytes);
            self.held.pop_front();
        }
        self.progress.hold(size_before + size_after)?;
        self.progress.decompress(size_after)?;
        let raw = self.read(self.at, size_before)?;
        self.at += size_before;
        if let Some(crc) = header.crc
            && crc as u32 != codec::checksum(&raw)
        {
            return wrong("a page's checksum is not that of its bytes");
        }
        let levels = [header.definition_bytes, header.repetition_bytes];
        let [definitions, repetitions] = levels.map(|bytes| size(bytes, "levels of"));
        let (definitions, repetitions) = (definitions?, repetitions?);
        // Of version 2, the levels stand before the values, as they are.
        let apart = if header.kind == DATA_2 {
            definitions + repetitions
        } else {
            0
        };
        if apart > size_before || apart > size_after {
            return wrong(format!(
                "a page of {size_after} bytes has {apart} of levels"
            ));
        }
        let page = self.decompress(raw, apart as usize, size_after as usize, &header)?;
        self.progress.release(size_before);
        let (page, grown) = self.page(&header, page)?;
        // A dictionary stays until the end.
        if page.is_data_page() {
            let (rows, bytes) = (self.lists.rows, size_after + grown);
            match self.held.back_mut() {
                Some((end, before)) if *end == rows => *before += bytes,
                _ => self.held.push_back((rows, bytes)),
            }
        }
        Ok(Some(page))
    }

    fn decompress(
        &self,
        raw: Vec<u8>,
        apart: usize,
        length: usize,
        header: &Header,
    ) -> Result<Bytes, Refused> {
        if self.codec == Compression::UNCOMPRESSED || header.is_uncompressed {
            if raw.len() != length {
                return wrong(format!("a page has {} bytes, not {length}", raw.len()));
            }
            return Ok(raw.into());
        }
        let (levels, packed) = raw.split_at(apart);
        let mut page = Vec::with_capacity(length);
        page.extend_from_slice(levels);
        // Where nothing is left, all values are null.
        if apart < length {
            codec::decompress(self.codec, packed, &mut page, length)?;
        }
        if page.len() != length {
            return wrong(format!(
                "a page decompresses to more or less than {length} bytes"
            ));
        }
        Ok(page.into())
    }

    /// Checks a decompressed page's contents; returns it, and the bytes, held, that its values need apart from its own.
    fn page(&mut self, header: &Header, buf: Bytes) -> Result<(Page, u64), Refused> {
        let count = size(header.values, "values of")?;
        // Checked to be one of i32.
        let num_values = count as u32;
        let encoding = encoding(header.encoding)?;
        let lists = self.descriptor.max_rep_level() > 0;
        if header.kind == DICTIONARY {
            if self.has_dictionary {
                return wrong("it has two dictionaries");
            }
            let length = usize::try_from(self.descriptor.type_length()).unwrap_or(0);
            let kind = (self.descriptor.physical_type(), length);
            values::dictionary(&buf, count, kind, lists).or_else(wrong)?;
            self.has_dictionary = true;
            let grown = count * values::VALUE_BYTES;
            self.progress.hold(grown)?;
            let page = Page::DictionaryPage {
                buf,
                num_values,
                encoding,
                is_sorted: false,
            };
            return Ok((page, grown));
        }
        self.seen += count;
        if self.seen > self.values {
            return wrong(format!(
                "its pages have {} values, not {}",
                self.seen, self.values
            ));
        }
        let (repetitions, values) = self.split(header, &buf)?;
        if lists {
            self.lists.read(repetitions, count).or_else(wrong)?;
        } else {
            self.lists.rows += count;
        }
        // What the values need apart from the page, before they are looked at.
        let mut grown = match encoding {
            Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY => {
                count * values::VALUE_BYTES
            }
            _ => 0,
        };
        self.progress.hold(grown)?;
        match encoding {
            Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY if !self.has_dictionary => {
                return wrong("it has no dictionary");
            }
            Encoding::DELTA_BINARY_PACKED => values::delta_count(values, count).or_else(wrong)?,
            Encoding::DELTA_LENGTH_BYTE_ARRAY => {
                values::delta_lengths(values, count).or_else(wrong)?;
            }
            Encoding::DELTA_BYTE_ARRAY => {
                let bytes = values::delta_texts(values, count, lists).or_else(wrong)?;
                self.progress.hold(bytes)?;
                grown += bytes;
            }
            _ => {}
        }
        let (seen, rows) = &self.progress.columns[self.index];
        seen.store(self.seen, Ordering::Relaxed);
        rows.store(self.lists.rows, Ordering::Relaxed);
        let page = if header.kind == DATA {
            Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            }
        } else {
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                num_nulls: size(header.nulls, "nulls of")? as u32,
                num_rows: size(header.rows, "rows of")? as u32,
                def_levels_byte_len: header.definition_bytes as u32,
                rep_levels_byte_len: header.repetition_bytes as u32,
                is_compressed: false,
                statistics: None,
            }
        };
        Ok((page, grown))
    }

    /// The repetition levels and the values of a data page.
    fn split<'b>(&self, header: &Header, page: &'b [u8]) -> Result<(&'b [u8], &'b [u8]), Refused> {
        if header.kind == DATA_2 {
            let (repetitions, rest) = page.split_at(header.repetition_bytes as usize);
            return Ok((repetitions, &rest[header.definition_bytes as usize..]));
        }
        let mut rest = page;
        let mut levels = |there: bool, encoding: i64| -> Result<&'b [u8], Refused> {
            if !there {
                return Ok(&[]);
            }
            // The one other, bit packing, was given up in 2013.
            if encoding != 3 {
                return wrong("its levels have an outdated encoding");
            }
            let short = || Refused::damaged("its levels are cut short".to_owned());
            let (length, after) = rest.split_first_chunk().ok_or_else(short)?;
            let length = u32::from_le_bytes(*length) as usize;
            let (levels, after) = after.split_at_checked(length).ok_or_else(short)?;
            rest = after;
            Ok(levels)
        };
        let repetitions = levels(
            self.descriptor.max_rep_level() > 0,
            header.repetition_encoding,
        )?;
        levels(
            self.descriptor.max_def_level() > 0,
            header.definition_encoding,
        )?;
        Ok((repetitions, rest))
    }

    fn placed(&self, refused: Refused) -> ParquetError {
        refused
            .of_column(&self.descriptor.path().string(), self.at)
            .into()
    }
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        self.next_page().map_err(|refused| self.placed(refused))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        let header = self.peek().map_err(|refused| self.placed(refused))?;
        let number = |number: i64| usize::try_from(number).ok();
        Ok(header.map(|header| PageMetadata {
            num_rows: (header.kind == DATA_2)
                .then(|| number(header.rows))
                .flatten(),
            num_levels: (header.kind != DICTIONARY)
                .then(|| number(header.values))
                .flatten(),
            is_dict: header.kind == DICTIONARY,
        }))
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        // Rows are never skipped.
        Err(ParquetError::NYI("pages are read in order".to_owned()))
    }
}
