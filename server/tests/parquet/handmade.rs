//! Parquet files written byte by byte, so that they can say anything of themselves (parquet-format: parquet.thrift, Encodings.md).
#![allow(dead_code, reason = "not every test needs every part")]

/// A value of the thrift compact protocol.
#[derive(Clone)]
pub(crate) enum Value {
    Bool(bool),
    I32(i64),
    I64(i64),
    Text(Vec<u8>),
    Struct(Fields),
    Structs(Vec<Fields>),
    Numbers(Vec<i64>),
    Texts(Vec<Vec<u8>>),
    /// A type and the bytes of a value.
    Raw(u8, Vec<u8>),
}

/// Fields with their ids, ascending.
pub(crate) type Fields = Vec<(i16, Value)>;

pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

pub(crate) fn zigzag(value: i64) -> Vec<u8> {
    varint(((value << 1) ^ (value >> 63)) as u64)
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&varint(bytes.len() as u64), bytes].concat()
}

fn list(kind: u8, elements: &[Vec<u8>]) -> Vec<u8> {
    [
        vec![0xf0 | kind],
        varint(elements.len() as u64),
        elements.concat(),
    ]
    .concat()
}

/// A struct's bytes.
pub(crate) fn encode(fields: &Fields) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, value) in fields {
        let (kind, value) = match value {
            Value::Bool(value) => (if *value { 1 } else { 2 }, Vec::new()),
            Value::I32(value) => (5, zigzag(*value)),
            Value::I64(value) => (6, zigzag(*value)),
            Value::Text(text) => (8, sized(text)),
            Value::Struct(fields) => (12, encode(fields)),
            Value::Structs(structs) => {
                (9, list(12, &structs.iter().map(encode).collect::<Vec<_>>()))
            }
            Value::Numbers(numbers) => (
                9,
                list(
                    5,
                    &numbers
                        .iter()
                        .map(|number| zigzag(*number))
                        .collect::<Vec<_>>(),
                ),
            ),
            Value::Texts(texts) => (
                9,
                list(8, &texts.iter().map(|text| sized(text)).collect::<Vec<_>>()),
            ),
            Value::Raw(kind, bytes) => (*kind, bytes.clone()),
        };
        // The id in full.
        bytes.push(kind);
        bytes.extend(zigzag(i64::from(*id)));
        bytes.extend(value);
    }
    bytes.push(0);
    bytes
}

// Codecs.
pub(crate) const PLAIN_BYTES: i64 = 0;
pub(crate) const SNAPPY: i64 = 1;
pub(crate) const GZIP: i64 = 2;
pub(crate) const ZSTD: i64 = 6;

// Encodings.
pub(crate) const PLAIN: i64 = 0;
pub(crate) const RLE: i64 = 3;
pub(crate) const DELTA_BINARY_PACKED: i64 = 5;
pub(crate) const DELTA_LENGTH_BYTE_ARRAY: i64 = 6;
pub(crate) const DELTA_BYTE_ARRAY: i64 = 7;
pub(crate) const RLE_DICTIONARY: i64 = 8;

/// A page: what its header says, and its bytes as the file has them.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) header: Fields,
    pub(crate) body: Vec<u8>,
}

fn page(kind: i64, part: i16, size: usize, body: &[u8], fields: Fields) -> Page {
    Page {
        header: vec![
            (1, Value::I32(kind)),
            (2, Value::I32(size as i64)),
            (3, Value::I32(body.len() as i64)),
            (part, Value::Struct(fields)),
        ],
        body: body.to_vec(),
    }
}

/// A data page of version 1 of `count` values, `size` bytes once decompressed.
pub(crate) fn data(encoding: i64, count: i64, size: usize, body: &[u8]) -> Page {
    let fields = [count, encoding, RLE, RLE];
    page(
        0,
        5,
        size,
        body,
        (1..).zip(fields.map(Value::I32)).collect(),
    )
}

/// A dictionary of `count` plain values.
pub(crate) fn dictionary(count: i64, size: usize, body: &[u8]) -> Page {
    let fields = [count, PLAIN];
    page(
        2,
        7,
        size,
        body,
        (1..).zip(fields.map(Value::I32)).collect(),
    )
}

/// Texts as plain values.
pub(crate) fn texts<T: AsRef<[u8]>>(texts: &[T]) -> Vec<u8> {
    texts
        .iter()
        .flat_map(|text| {
            let text = text.as_ref();
            [&(text.len() as u32).to_le_bytes(), text].concat()
        })
        .collect()
}

/// A column and its pages.
#[derive(Clone)]
pub(crate) struct Column {
    /// Its elements of the schema, depth first.
    pub(crate) schema: Vec<Fields>,
    pub(crate) path: Vec<&'static str>,
    /// The number of its physical type.
    pub(crate) physical: i64,
    pub(crate) codec: i64,
    pub(crate) values: i64,
    pub(crate) has_dictionary: bool,
    pub(crate) pages: Vec<Page>,
}

const BYTE_ARRAY: i64 = 6;

fn leaf(name: &str, repetition: i64) -> Fields {
    vec![
        (1, Value::I32(BYTE_ARRAY)),
        (3, Value::I32(repetition)),
        (4, Value::Text(name.into())),
        (6, Value::I32(0)),
    ]
}

/// A column of texts, none of them null.
pub(crate) fn required(name: &'static str, codec: i64, values: i64, pages: Vec<Page>) -> Column {
    let has_dictionary = matches!(pages[0].header[0].1, Value::I32(2));
    Column {
        schema: vec![leaf(name, 0)],
        path: vec![name],
        physical: BYTE_ARRAY,
        codec,
        values,
        has_dictionary,
        pages,
    }
}

/// A column of lists of texts: `repeated binary name`.
pub(crate) fn repeated(name: &'static str, values: i64, pages: Vec<Page>) -> Column {
    Column {
        schema: vec![leaf(name, 2)],
        ..required(name, PLAIN_BYTES, values, pages)
    }
}

/// A plain column of a physical and a converted type, a scale and a precision.
pub(crate) fn typed(
    name: &'static str,
    [physical, converted, scale, precision]: [i64; 4],
    body: &[u8],
) -> Column {
    let number = |id, number| (id, Value::I32(number));
    Column {
        schema: vec![vec![
            number(1, physical),
            number(3, 0),
            (4, Value::Text(name.into())),
            number(6, converted),
            number(7, scale),
            number(8, precision),
        ]],
        physical,
        ..required(name, PLAIN_BYTES, 2, vec![data(PLAIN, 2, body.len(), body)])
    }
}

/// A file of one row group with these columns.
pub(crate) struct Handmade {
    pub(crate) columns: Vec<Column>,
    /// Rows that the file speaks of, and its row group.
    pub(crate) rows: (i64, i64),
}

impl Handmade {
    /// Two customers, "a" and "b".
    pub(crate) fn customers() -> Self {
        let column = |name, values: [&str; 2]| {
            let body = texts(&values);
            required(
                name,
                PLAIN_BYTES,
                2,
                vec![data(PLAIN, 2, body.len(), &body)],
            )
        };
        Self {
            columns: vec![column("id", ["a", "b"]), column("stage", ["Lead", "Deal"])],
            rows: (2, 2),
        }
    }

    /// And a further column.
    pub(crate) fn with(mut self, column: Column) -> Self {
        self.columns.push(column);
        self
    }

    /// The footer.
    fn metadata(&self, places: &[(usize, usize)]) -> Fields {
        let mut schema = vec![vec![
            (4, Value::Text(b"customer".to_vec())),
            (5, Value::I32(self.columns.len() as i64)),
        ]];
        let mut chunks = Vec::new();
        for (column, (start, length)) in self.columns.iter().zip(places) {
            schema.extend(column.schema.iter().cloned());
            let mut metadata = vec![
                (1, Value::I32(column.physical)),
                (2, Value::Numbers(vec![PLAIN])),
                (
                    3,
                    Value::Texts(
                        column
                            .path
                            .iter()
                            .map(|name| name.as_bytes().to_vec())
                            .collect(),
                    ),
                ),
                (4, Value::I32(column.codec)),
                (5, Value::I64(column.values)),
                (6, Value::I64(*length as i64)),
                (7, Value::I64(*length as i64)),
                (9, Value::I64(*start as i64)),
            ];
            if column.has_dictionary {
                metadata.push((11, Value::I64(*start as i64)));
            }
            chunks.push(vec![
                (2, Value::I64(*start as i64)),
                (3, Value::Struct(metadata)),
            ]);
        }
        let size: usize = places.iter().map(|(_, length)| length).sum();
        let group = vec![
            (1, Value::Structs(chunks)),
            (2, Value::I64(size as i64)),
            (3, Value::I64(self.rows.1)),
        ];
        vec![
            (1, Value::I32(1)),
            (2, Value::Structs(schema)),
            (3, Value::I64(self.rows.0)),
            (4, Value::Structs(vec![group])),
        ]
    }

    /// The file, whose footer `change` changes.
    pub(crate) fn changed(&self, change: impl FnOnce(&mut Fields)) -> Vec<u8> {
        let mut file = b"PAR1".to_vec();
        let mut places = Vec::new();
        for column in &self.columns {
            let start = file.len();
            for page in &column.pages {
                file.extend(encode(&page.header));
                file.extend(&page.body);
            }
            places.push((start, file.len() - start));
        }
        let mut metadata = self.metadata(&places);
        change(&mut metadata);
        let footer = encode(&metadata);
        file.extend(&footer);
        file.extend((footer.len() as u32).to_le_bytes());
        file.extend(b"PAR1");
        file
    }

    /// The file.
    pub(crate) fn file(&self) -> Vec<u8> {
        self.changed(|_| ())
    }
}
