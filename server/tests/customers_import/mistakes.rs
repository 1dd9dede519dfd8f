//! Every mistake in a file has its message, with file, line and column.

use super::*;

#[test]
fn every_mistake_in_a_csv_file_has_its_message() {
    let long_id = "x".repeat(257);
    let long_name = "n".repeat(1025);
    let long_email = "e".repeat(1025);
    let cases: &[(&str, &[u8], &str)] = &[
        ("empty", b"", "f.csv: the file is empty"),
        (
            "only a byte order mark",
            b"\xef\xbb\xbf",
            "f.csv: the file is empty",
        ),
        ("only empty lines", b"\n\r\n", "f.csv: the file is empty"),
        (
            "UTF-16",
            b"\xff\xfei\0d\0",
            "f.csv: the file is in UTF-16: save it as UTF-8",
        ),
        (
            "no id",
            b"name,stage\na,Lead\n",
            "f.csv, line 1: the header has no column \"id\"",
        ),
        (
            "no stage",
            b"\nid,name\na,b\n",
            "f.csv, line 2: the header has no column \"stage\"",
        ),
        (
            "semicolons",
            b"id;stage\na;Lead\n",
            "f.csv, line 1: the header has no column \"id\": separate the values by commas",
        ),
        (
            "column twice",
            b"id,stage,Plan,Plan\n",
            "f.csv, line 1, column 4 (Plan): column 3 has this name too: rename or remove one",
        ),
        (
            "known column twice",
            b"id,stage,email,EMAIL\n",
            "f.csv, line 1, column 4 (EMAIL): column 3 has this name too: rename or remove one",
        ),
        (
            "column without a name",
            b"id,stage,,x\n",
            "f.csv, line 1, column 3 (header): the column has no name",
        ),
        (
            "header not UTF-8",
            b"id,stage,\xe9\n",
            "f.csv, line 1, column 3 (header): the text is not UTF-8: save the file as UTF-8",
        ),
        (
            "line break inside an id",
            b"id,stage\na,Lead\n\"b\nb\",Lead\nc,customer\n",
            "f.csv, line 3, column 1 (id): it contains a control character: remove it",
        ),
        (
            "unknown stage after a value of two lines",
            b"id,stage\na,Lead\n\"b\n\",Lead\nc,customer\n",
            "f.csv, line 5, column 2 (stage): unknown stage \"customer\": the stages are Prospect, Lead, Deal, Customer, Lost, Churned; define a new one before customers use it",
        ),
        (
            "unknown stage",
            b"id,stage\na,Lead\nc,customer\n",
            "f.csv, line 3, column 2 (stage): unknown stage \"customer\": the stages are Prospect, Lead, Deal, Customer, Lost, Churned; define a new one before customers use it",
        ),
        (
            "no stage given",
            b"stage,id\n ,a\n",
            "f.csv, line 2, column 1 (stage): the stage is missing: give one of Prospect, Lead, Deal, Customer, Lost, Churned",
        ),
        (
            "no id given",
            b"id,stage\n \xc2\xa0,Lead\n",
            "f.csv, line 2, column 1 (id): the id is missing",
        ),
        (
            "too few values",
            b"id,stage,name\na,Lead\n",
            "f.csv, line 2: 2 values, where the header has 3 columns",
        ),
        (
            "too many values",
            b"id,stage\r\na,Lead\r\nb,Lead,\r\n",
            "f.csv, line 3: 3 values, where the header has 2 columns",
        ),
        (
            "not UTF-8",
            b"id,name,stage\na,Caf\xe9,Lead\n",
            "f.csv, line 2, column 2 (name): the text is not UTF-8: save the file as UTF-8",
        ),
        (
            "field not UTF-8",
            b"id,plan,stage\na,Caf\xe9,Lead\n",
            "f.csv, line 2, column 2 (plan): the text is not UTF-8: save the file as UTF-8",
        ),
        (
            "id twice",
            b"id,stage\nb,Lead\na,Lead\n\nb,Deal\n",
            "f.csv, line 5: the id \"b\" is on line 2 already: remove one of the two",
        ),
        (
            "quotation mark not closed",
            b"id,stage,name\na,Lead,\"Acme\nb,Lead,Beta\n",
            "f.csv, line 2, column 3 (name): the quotation mark at the value's start is not closed",
        ),
        (
            "text after a quotation mark",
            b"id,stage,name\na,Lead,\"Acme\" Inc.\n",
            "f.csv, line 2, column 3 (name): \" Inc.\" follows the closing quotation mark: write quotation marks inside a value twice",
        ),
        (
            "old line ends",
            b"id,stage\ra,Lead\r",
            "f.csv, line 1, column 2 (header): a carriage return without a line feed: save the file with LF or CRLF line ends",
        ),
        (
            "private",
            b"id,stage,private\na,Lead,maybe\n",
            "f.csv, line 2, column 3 (private): \"maybe\" is neither true nor false",
        ),
        (
            "control character",
            b"id,stage,plan\na,Lead,\x1b[31m\n",
            "f.csv, line 2, column 3 (plan): it contains a control character: remove it",
        ),
        (
            "control character",
            b"id,stage,name\na,Lead,\x00\n",
            "f.csv, line 2, column 3 (name): it contains a control character: remove it",
        ),
    ];
    for (case, content, expected) in cases {
        let node = Node::new();
        node.import("good.csv", "id,stage\nkept,Lead\n").unwrap();
        let error = node.import("f.csv", content).unwrap_err();
        assert_eq!(error.message(), *expected, "{case}");
        assert_eq!(error.reason(), Reason::InvalidArgument, "{case}");
        assert_eq!(node.ids(), ["kept"], "{case}: all or nothing");
    }
    for (column, value, expected) in [
        (
            "id",
            &long_id,
            "f.csv, line 2, column 1 (id): 257 bytes long: at most 256 are allowed",
        ),
        (
            "name",
            &long_name,
            "f.csv, line 2, column 1 (name): 1025 bytes long: at most 1024 are allowed",
        ),
        (
            "email",
            &long_email,
            "f.csv, line 2, column 1 (email): 1025 bytes long: at most 1024 are allowed",
        ),
    ] {
        let rest = if column == "id" {
            "stage\n"
        } else {
            "stage,id\n"
        };
        let values = if column == "id" { "Lead\n" } else { "Lead,a\n" };
        let error = Node::new()
            .import("f.csv", format!("{column},{rest}{value},{values}"))
            .unwrap_err();
        assert_eq!(error.message(), expected);
    }
    let many = vec!["a@b.example"; 257].join(";");
    let error = Node::new()
        .import("f.csv", format!("id,stage,email\na,Lead,{many}\n"))
        .unwrap_err();
    assert_eq!(
        error.message(),
        "f.csv, line 2: 257 identifiers: a customer has at most 256"
    );
    let record = format!(
        "id,stage,name\na,Lead,ok\nb,Lead,\"{}\n",
        "n\n".repeat(1 << 20)
    );
    let error = Node::new().import("f.csv", record).unwrap_err();
    assert_eq!(
        error.message(),
        "f.csv, line 3: the record that starts here is longer than 1048576 bytes: is a quotation mark not closed?"
    );
}

#[test]
fn every_mistake_in_an_ndjson_file_has_its_message() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "f.ndjson: the file is empty"),
        (
            b"{\"id\":\"a\",\"stage\":\"Lead\"}\n{\"id\":\"b\"\n",
            "f.ndjson, line 2, column 9 (JSON): not a JSON object: EOF while parsing an object",
        ),
        (
            b"[1]\n",
            "f.ndjson, line 1, column 0 (JSON): not a JSON object: invalid type: sequence, expected an object",
        ),
        (
            b"{\"id\":\"a\",\"stage\":\"Leads\"}",
            "f.ndjson, line 1, column 19 (stage): unknown stage \"Leads\": the stages are Prospect, Lead, Deal, Customer, Lost, Churned; define a new one before customers use it",
        ),
        (
            b"{\"id\":\"a\"}",
            "f.ndjson, line 1: the stage is missing: give one of Prospect, Lead, Deal, Customer, Lost, Churned",
        ),
        (
            b"\n{\"stage\":\"Lead\"}",
            "f.ndjson, line 2: the id is missing",
        ),
        (
            b"{\"id\":\"a\",\"id\":\"b\",\"stage\":\"Lead\"}",
            "f.ndjson, line 1, column 16 (id): this member occurs twice: remove one",
        ),
        (
            b"{\"id\":\"a\",\"plan\":1,\"plan\":2,\"stage\":\"Lead\"}",
            "f.ndjson, line 1, column 27 (plan): this member occurs twice: remove one",
        ),
        (
            b"{\"id\":\"a\",\"stage\":\"Lead\",\"plan\":{\"x\":1}}",
            "f.ndjson, line 1, column 33 (plan): a text is wanted here, not {\"x\":1}",
        ),
        (
            b"{\"id\":\"a\",\"stage\":\"Lead\",\"email\":[[\"x\"]]}",
            "f.ndjson, line 1, column 34 (email): a text is wanted here, not [\"x\"]",
        ),
        (
            b"{\"id\":\"a\",\"stage\":\"Lead\",\"private\":\"perhaps\"}",
            "f.ndjson, line 1, column 36 (private): \"perhaps\" is neither true nor false",
        ),
        (
            b"{\"id\":\"\xe9\"}",
            "f.ndjson, line 1: the text is not UTF-8: save the file as UTF-8",
        ),
        (
            b"{\"id\":\"a\",\"stage\":\"Lead\"}\n{\"id\":\"a\",\"stage\":\"Lead\"}\n",
            "f.ndjson, line 2: the id \"a\" is on line 1 already: remove one of the two",
        ),
        (
            b"{\"name\":\"\xc3\xa9\",\"stage\":\"Leads\",\"id\":\"a\"}",
            "f.ndjson, line 1, column 21 (stage): unknown stage \"Leads\": the stages are Prospect, Lead, Deal, Customer, Lost, Churned; define a new one before customers use it",
        ),
    ];
    for (content, expected) in cases {
        let node = Node::new();
        let error = node.import("f.ndjson", content).unwrap_err();
        assert_eq!(
            error.message(),
            expected
                .replace("{\"x\":1}", "{\\\"x\\\":1}")
                .replace("not [\"x\"]", "not [\\\"x\\\"]")
        );
        assert_eq!(node.count(), 0);
    }
}

#[test]
fn files_that_cannot_be_read() {
    let node = Node::new();
    let missing = node.directory.path().join("none.csv");
    let import = |path: &std::path::Path, format| {
        import_file(
            &node.store,
            &node.clock,
            path,
            format,
            &ImportOptions::default(),
            &mut |_| (),
        )
        .unwrap_err()
    };
    let error = import(&missing, None);
    assert_eq!(error.reason(), Reason::FileUnreadable);
    assert_eq!(
        error.message(),
        format!(
            "{}: cannot be read: No such file or directory (os error 2)",
            missing.display()
        )
    );
    let error = import(node.directory.path(), Some(Format::Csv));
    assert_eq!(error.reason(), Reason::FileUnreadable);
    assert!(
        error
            .message()
            .ends_with(": cannot be read: Is a directory (os error 21)"),
        "{error}"
    );
    let error = import(&node.file("customers.xlsx", "x"), None);
    assert_eq!(
        error.message(),
        "format: customers.xlsx: the ending does not say the format: give one of csv, ndjson, parquet"
    );
    #[cfg(not(feature = "parquet"))]
    assert_eq!(
        import(&node.file("f.parquet", "PAR1"), None).message(),
        "f.parquet: this node was built without Parquet: export the customers as CSV or NDJSON, or build it with `--features parquet`"
    );
}
