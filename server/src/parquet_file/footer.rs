//! A Parquet file's footer, checked before the parquet crate builds what it describes, and after.

use std::{fs::File, os::unix::fs::FileExt as _};

use parquet::{
    file::metadata::{
        ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
        RowGroupMetaData,
    },
    schema::types::Type,
};

use super::{
    Refused, contained,
    thrift::{self, Fault, Item},
};

const MAGIC: &[u8; 4] = b"PAR1";
/// Ends a file whose footer is encrypted.
const ENCRYPTED: &[u8; 4] = b"PARE";
/// The footer's length and the magic bytes after it.
const TAIL_BYTES: u64 = 8;
/// Bytes of a footer.
const MAX_FOOTER_BYTES: u64 = 16 << 20;
/// Columns of a file; its schema may have four elements for each.
const MAX_COLUMNS: usize = 512;
/// How deep a schema's tree may be for the crate, which recurses; what lies deeper than a list is refused later, by name.
const MAX_SCHEMA_DEPTH: usize = 16;
/// Columns of all row groups together.
const MAX_CHUNKS: usize = 1 << 18;
/// Bytes of a column's name.
const MAX_NAME_BYTES: usize = 256;

/// Reads and checks the footer.
pub(super) fn read(file: &File) -> Result<ParquetMetaData, Refused> {
    let length = file.metadata().map_err(Refused::Copy)?.len();
    let (head, tail) = (MAGIC.len() as u64, TAIL_BYTES);
    if length < head + tail {
        return Err(Refused::damaged(format!("it has only {length} bytes")));
    }
    let mut start = [0; 4];
    file.read_exact_at(&mut start, 0).map_err(Refused::Copy)?;
    let mut end = [0; 8];
    file.read_exact_at(&mut end, length - tail)
        .map_err(Refused::Copy)?;
    let (size, magic) = end.split_at(4);
    if magic == ENCRYPTED {
        return Err(Refused::limit(
            "the Parquet file is encrypted: export it without",
        ));
    }
    if start != *MAGIC || magic != MAGIC {
        return Err(Refused::damaged(
            "it does not begin and end with \"PAR1\"".to_owned(),
        ));
    }
    let size = u64::from(u32::from_le_bytes(size.try_into().unwrap_or_default()));
    if size > length - head - tail {
        return Err(Refused::damaged(format!(
            "its footer has {size} bytes, the file {length}"
        )));
    }
    if size > MAX_FOOTER_BYTES {
        return Err(Refused::limit(format!(
            "the Parquet footer has {size} bytes, of which {MAX_FOOTER_BYTES} are the limit: use fewer columns or larger row groups"
        )));
    }
    let mut footer = vec![0; usize::try_from(size).map_err(|_| Refused::contradiction())?];
    file.read_exact_at(&mut footer, length - tail - size)
        .map_err(Refused::Copy)?;
    check_bytes(&footer)?;
    // Nothing here needs statistics; skipped ones cannot be wrong.
    let options = ParquetMetaDataOptions::new()
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
    contained(|| {
        let metadata =
            ParquetMetaDataReader::decode_metadata_with_options(&footer, Some(&options))?;
        check(&metadata, length)?;
        Ok(metadata)
    })
}

/// Checks a footer's counts and the depth of its schema (parquet.thrift: `FileMetaData` has the schema in field 2 and the row
/// groups in field 4, a `RowGroup` its columns in field 1, a `SchemaElement` the number of its children in field 5).
fn check_bytes(footer: &[u8]) -> Result<(), Refused> {
    let mut children: Vec<i64> = Vec::new();
    let mut chunks = 0;
    let walked = thrift::walk(footer, &mut |path, item| {
        match (path, item) {
            ([2], Item::Struct) => {
                if children.len() > 4 * MAX_COLUMNS {
                    return Err(Fault::Malformed("its schema has too many columns"));
                }
                children.push(0);
            }
            ([2, 5], Item::Integer(count)) => {
                if let Some(last) = children.last_mut() {
                    *last = count;
                }
            }
            ([4] | [4, 1], Item::Struct) => {
                chunks += 1;
                if chunks > MAX_CHUNKS {
                    return Err(Fault::Malformed(
                        "it has too many row groups: write larger ones",
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    });
    match walked {
        Ok(_) => check_depth(&children),
        Err(Fault::Short) => Err(Refused::damaged("its footer is cut short".to_owned())),
        Err(Fault::Malformed(problem)) => Err(Refused::damaged(format!("in its footer {problem}"))),
    }
}

/// Checks the depth of the tree whose elements, in depth-first order, have these numbers of children.
fn check_depth(children: &[i64]) -> Result<(), Refused> {
    // Children still to come, of each element that is open.
    let mut open: Vec<i64> = Vec::new();
    for count in children {
        if *count < 0 || *count > children.len() as i64 {
            return Err(Refused::damaged("its schema contradicts itself".to_owned()));
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if *count > 0 {
            open.push(*count);
        }
        if open.len() > MAX_SCHEMA_DEPTH {
            return Err(Refused::limit(
                "the Parquet file's columns are nested too deep: give each column plain values or a list of plain values",
            ));
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    Ok(())
}

/// Checks what the crate understood, of a file of `length` bytes.
fn check(metadata: &ParquetMetaData, length: u64) -> Result<(), Refused> {
    let schema = metadata.file_metadata().schema_descr();
    let fields = schema.root_schema().get_fields();
    if fields.len() > MAX_COLUMNS {
        return Err(Refused::limit(format!(
            "the file has {} columns; {MAX_COLUMNS} are the limit",
            fields.len()
        )));
    }
    for field in fields {
        check_column(field)?;
    }
    // One leaf each, as just checked, so that columns and fields have the same numbers.
    if schema.num_columns() != fields.len() {
        return Err(Refused::contradiction());
    }
    for (column, field) in schema.columns().iter().zip(fields) {
        if column.max_rep_level() > 1 {
            return Err(nested(field.name()));
        }
    }
    let mut rows = 0_i64;
    let mut bytes = 0_u64;
    for group in metadata.row_groups() {
        bytes = bytes.saturating_add(check_group(group, length)?);
        rows = rows.saturating_add(group.num_rows());
    }
    if bytes > length {
        return Err(Refused::damaged(format!(
            "its columns have {bytes} bytes together, the file {length}"
        )));
    }
    let said = metadata.file_metadata().num_rows();
    if rows != said {
        return Err(Refused::damaged(format!(
            "its footer speaks of {said} rows, its row groups of {rows}"
        )));
    }
    Ok(())
}

/// A column has plain values or, at most, a list of them: memory for one row stays bounded.
fn check_column(field: &Type) -> Result<(), Refused> {
    let name = field.name();
    if name.len() > MAX_NAME_BYTES {
        return Err(Refused::limit(format!(
            "a column's name has {} bytes; {MAX_NAME_BYTES} are the limit",
            name.len()
        )));
    }
    let mut inner = field;
    for _ in 0..3 {
        match inner {
            Type::PrimitiveType { .. } => return Ok(()),
            Type::GroupType { fields, .. } => match fields.as_slice() {
                [only] => inner = only,
                _ => break,
            },
        }
    }
    Err(nested(name))
}

fn nested(column: &str) -> Refused {
    Refused::limit(format!(
        "column \"{column}\" has values within values: give it plain values or a list of plain values, or leave it out"
    ))
}

/// Checks where a row group's columns lie and how many values they claim; returns their bytes.
fn check_group(group: &RowGroupMetaData, length: u64) -> Result<u64, Refused> {
    let mut bytes = 0_u64;
    if group.num_rows() < 0 {
        return Err(Refused::contradiction());
    }
    for column in group.columns() {
        let name = column.column_path().string();
        let wrong = |problem: String| Refused::damaged(format!("column \"{name}\": {problem}"));
        if column.file_path().is_some() {
            return Err(wrong("its values are in another file".to_owned()));
        }
        let offsets = [
            column.data_page_offset(),
            column.dictionary_page_offset().unwrap_or(0),
            column.compressed_size(),
            column.num_values(),
        ];
        if offsets.iter().any(|offset| *offset < 0) {
            return Err(wrong("its place in the file is negative".to_owned()));
        }
        let (start, size) = column.byte_range();
        if start.saturating_add(size) > length {
            return Err(wrong(format!(
                "{size} bytes from byte {start}, the file has {length}"
            )));
        }
        bytes = bytes.saturating_add(size);
        let repeated = column.column_descr().max_rep_level() > 0;
        if !repeated && column.num_values() != group.num_rows() {
            return Err(wrong(format!(
                "{} values in a group of {} rows",
                column.num_values(),
                group.num_rows()
            )));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schemas_depth_is_counted() {
        // A root with a list (group of group of leaf) and two leaves.
        assert!(check_depth(&[3, 1, 1, 0, 0, 0]).is_ok());
        // Many columns side by side are not deep.
        assert!(check_depth(&[vec![500], vec![0; 500]].concat()).is_ok());
        let deep = |depth: usize| [vec![1; depth], vec![0]].concat();
        assert!(check_depth(&deep(MAX_SCHEMA_DEPTH)).is_ok());
        assert!(check_depth(&deep(MAX_SCHEMA_DEPTH + 1)).is_err());
        assert!(check_depth(&deep(1_000_000)).is_err());
        assert!(check_depth(&[-1]).is_err());
        assert!(check_depth(&[1 << 40, 0]).is_err());
    }
}
