//! What goes in comes back: customers, files, stages, pages, and what is wrong with them.

use super::*;

#[tokio::test]
async fn customers_come_back_as_they_were_sent() {
    let Node {
        mut client,
        directory: _directory,
    } = node().await;
    let full = Customer {
        emails: vec!["Ann@Acme.example".into(), "b'c@acme.example".into()],
        phones: vec!["044 668 18 00".into()],
        domains: vec!["gmail.com".into()],
        external_ids: vec!["X;1".into()],
        name: "Acme".into(),
        owner: "Eve".into(),
        industry: "Tools".into(),
        region: "EMEA".into(),
        private: true,
        fields: [
            ("plan".to_owned(), "gold".to_owned()),
            ("empty".to_owned(), " ".to_owned()),
        ]
        .into(),
        ..customer("c-1", "Lead")
    };
    let response = client
        .upsert_customers(complete([
            upsert(vec![full.clone()]),
            upsert(vec![customer("c-0", "Deal")]),
        ]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            response.inserted,
            response.updated,
            response.unchanged,
            response.deleted
        ),
        (2, 0, 0, 0)
    );
    assert_eq!(
        response.unusable_identifiers,
        [("FREE_MAIL_DOMAIN".to_owned(), 1)].into()
    );
    let listed = client
        .list_customers(ListCustomersRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.total_size, 2);
    assert_eq!(listed.next_page_token, "");
    assert_eq!(listed.customers[0].id, "c-0");
    let mut expected = full.clone();
    expected.fields.remove("empty");
    // 2026-03-01T00:00:00Z
    expected.updated_at = Some(prost_types::Timestamp {
        seconds: 1_772_323_200,
        nanos: 0,
    });
    assert_eq!(listed.customers[1], expected);
    let again = client
        .upsert_customers(complete([upsert(vec![full])]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((again.inserted, again.updated, again.unchanged), (0, 0, 1));
}

#[tokio::test]
async fn a_wrong_customer_is_named_and_nothing_is_stored() {
    let Node {
        mut client,
        directory: _directory,
    } = node().await;
    let good = || customer("good", "Lead");
    let field = |name: &str| Customer {
        fields: [(name.to_owned(), "x\u{7}".to_owned())].into(),
        ..good()
    };
    let stages = "Prospect, Lead, Deal, Customer, Lost, Churned";
    let cases = [
        (
            vec![good(), customer("a", "Nope")],
            "customers[1].stage",
            format!(
                "customers[1].stage: unknown stage \"Nope\": the stages are {stages}; define a new one before customers use it"
            ),
        ),
        (
            vec![customer("", "Lead")],
            "customers[0].id",
            "customers[0].id: the id is missing".to_owned(),
        ),
        (
            vec![Customer {
                emails: vec!["a@b.example".into(), "x".repeat(1025)],
                ..good()
            }],
            "customers[0].emails[1]",
            "customers[0].emails[1]: 1025 bytes long: at most 1024 are allowed".to_owned(),
        ),
        (
            vec![Customer {
                owner: "x".repeat(1025),
                ..good()
            }],
            "customers[0].owner",
            "customers[0].owner: 1025 bytes long: at most 1024 are allowed".to_owned(),
        ),
        (
            vec![field("plan")],
            "customers[0].fields[\"plan\"]",
            "customers[0].fields[\"plan\"]: it contains a control character: remove it".to_owned(),
        ),
        (
            vec![field("")],
            "customers[0].fields",
            "customers[0].fields: a further field has no name".to_owned(),
        ),
        (
            vec![good(), customer("first", "Lead")],
            "customers[1].id",
            "customers[1].id: \"first\" is customers[0] of message 1 already".to_owned(),
        ),
        (
            vec![good(); 10_001],
            "customers",
            "customers: 10001 in one message: at most 10000 are allowed".to_owned(),
        ),
    ];
    for (customers, field, sentence) in cases {
        let messages = [upsert(vec![customer("first", "Lead")]), upsert(customers)];
        let status = client
            .upsert_customers(complete(messages))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            violation(&status),
            (field.to_owned(), "2".to_owned(), sentence)
        );
        assert_eq!(ids(&mut client).await, [""; 0], "all or nothing");
    }
    let late = UpsertCustomersRequest {
        default_region: "DE".into(),
        ..UpsertCustomersRequest::default()
    };
    let status = client
        .upsert_customers(complete([upsert(vec![]), late]))
        .await
        .unwrap_err();
    assert_eq!(
        violation(&status).2,
        "default_region: only the first message of a stream may set it"
    );
    let region = UpsertCustomersRequest {
        default_region: "XX".into(),
        ..UpsertCustomersRequest::default()
    };
    let status = client
        .upsert_customers(complete([region]))
        .await
        .unwrap_err();
    assert_eq!(violation(&status).0, "default_region");
}

#[tokio::test]
async fn pages_and_filters() {
    let Node {
        mut client,
        directory: _directory,
    } = node().await;
    let many: Vec<Customer> = (0..25)
        .map(|number| Customer {
            name: format!("Company {number}"),
            domains: vec![format!("www.c{number}.example")],
            ..customer(
                &format!("id-{number:02}"),
                if number % 2 == 0 { "Lead" } else { "Deal" },
            )
        })
        .collect();
    client
        .upsert_customers(complete([upsert(many)]))
        .await
        .unwrap();
    let list = |stage: &str, search: &str, token: &str| ListCustomersRequest {
        page_size: 10,
        page_token: token.into(),
        stage: stage.into(),
        search: search.into(),
    };
    for (stage, search, expected) in [
        ("", "", 25),
        ("Lead", "", 13),
        ("", "COMPANY 1", 11),
        ("Deal", "c1", 6),
        ("", "none", 0),
    ] {
        let mut found: Vec<String> = Vec::new();
        let mut token = String::new();
        loop {
            let page = client
                .list_customers(list(stage, search, &token))
                .await
                .unwrap()
                .into_inner();
            assert_eq!(page.total_size, expected, "{stage} {search}");
            assert!(page.customers.len() <= 10);
            found.extend(page.customers.into_iter().map(|customer| customer.id));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(found.len() as u64, expected, "{stage} {search}");
        assert!(found.is_sorted_by(|left, right| left < right));
    }
    let token = client
        .list_customers(list("", "", ""))
        .await
        .unwrap()
        .into_inner()
        .next_page_token;
    for (stage, token) in [("Lead", token.as_str()), ("", "nonsense")] {
        let status = client
            .list_customers(list(stage, "", token))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.get_details_error_info().unwrap().reason,
            "PAGE_TOKEN_INVALID"
        );
    }
    let status = client
        .list_customers(list("Nope", "", ""))
        .await
        .unwrap_err();
    assert_eq!(
        status.message(),
        "stage: unknown stage \"Nope\": the stages are Prospect, Lead, Deal, Customer, Lost, Churned"
    );
    let status = client
        .list_customers(ListCustomersRequest {
            page_size: -1,
            ..list("", "", "")
        })
        .await
        .unwrap_err();
    assert_eq!(status.message(), "page_size: must not be negative");
    let status = client
        .list_customers(list("", &"x".repeat(257), ""))
        .await
        .unwrap_err();
    assert_eq!(
        status.message(),
        "search: 257 bytes long: at most 256 are allowed"
    );
}

#[tokio::test]
async fn an_imported_file_is_read_by_the_node() {
    let Node {
        mut client,
        directory,
    } = node().await;
    let start = |file_name: &str, format: &str| {
        Part::Start(ImportCustomersStart {
            file_name: file_name.into(),
            format: format.into(),
            ..ImportCustomersStart::default()
        })
    };
    let chunk = |text: &str| Part::Chunk(text.as_bytes().to_vec());
    let messages = |parts: Vec<Part>| {
        complete(parts.into_iter().map(|part| ImportCustomersRequest {
            part: Some(part),
            ..ImportCustomersRequest::default()
        }))
    };
    let response = client
        .import_customers(messages(vec![
            start("/home/me/f.csv", ""),
            chunk("id,sta"),
            chunk(""),
            chunk("ge,phone,plan\na,Lead,044 668 18 00,gold\n"),
        ]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (response.inserted, response.field_columns),
        (1, vec!["plan".to_owned()])
    );
    assert!(response.unusable_identifiers.is_empty());
    assert_eq!(ids(&mut client).await, ["a"]);
    let sized = |size_bytes| {
        Part::Start(ImportCustomersStart {
            file_name: "f.csv".into(),
            size_bytes: Some(size_bytes),
            ..ImportCustomersStart::default()
        })
    };
    let row = "id,stage\na,Lead\n";
    let unchanged = client
        .import_customers(messages(vec![sized(16), chunk(row)]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((unchanged.unchanged, unchanged.updated), (0, 1));
    for (parts, sentence) in [
        (
            vec![
                start("/home/me/f.csv", ""),
                chunk("id,stage\nb,Lead\nc"),
                chunk("\n"),
            ],
            "f.csv, line 3: 1 values, where the header has 2 columns",
        ),
        (
            vec![start("f.txt", "")],
            "format: f.txt: the ending does not say the format: give one of csv, ndjson, parquet",
        ),
        (
            vec![start("f.txt", "xlsx")],
            "format: \"xlsx\" is not one of csv, ndjson, parquet",
        ),
        (vec![start("f.csv", "")], "f.csv: the file is empty"),
        (
            vec![start("", "csv")],
            "start.file_name: give a name of 1 to 256 bytes without control characters",
        ),
        (
            vec![chunk("id,stage\n")],
            "start: the first message of the stream says what the file is",
        ),
        (
            vec![start("f.csv", ""), start("f.csv", "")],
            "chunk: every message after the first, but an empty last one, carries bytes of the file",
        ),
        (
            vec![start("f.txt", "ndjson"), chunk("{}")],
            "f.txt, line 1: the id is missing",
        ),
        (
            vec![sized(17), chunk(row)],
            "start.size_bytes: the stream carried 16 bytes, not 17: nothing was changed",
        ),
        (
            vec![sized(3), chunk(row)],
            "start.size_bytes: the stream carried more than 3 bytes: nothing was changed",
        ),
    ] {
        let status = client.import_customers(messages(parts)).await.unwrap_err();
        assert_eq!(status.message(), sentence);
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    assert_eq!(ids(&mut client).await, ["a"]);
    let mut left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        ["overlap.db", "overlap.db-shm", "overlap.db-wal"],
        "no spool file stays behind"
    );
}

#[tokio::test]
async fn p08_custom_stages_through_the_api() {
    let Node {
        mut client,
        directory: _directory,
    } = node().await;
    let stage = |id: &str, ordinal, category: StageCategory| Stage {
        id: id.into(),
        label: String::new(),
        ordinal,
        category: category.into(),
    };
    let request = UpsertStagesRequest {
        stages: vec![stage("Pilot", 35, StageCategory::Open)],
    };
    let upserted = client
        .upsert_stages(request)
        .await
        .unwrap()
        .into_inner()
        .stages;
    let listed = client
        .list_stages(ListStagesRequest {})
        .await
        .unwrap()
        .into_inner()
        .stages;
    assert_eq!(upserted, listed);
    let names: Vec<&str> = listed.iter().map(|stage| stage.id.as_str()).collect();
    assert_eq!(
        names,
        [
            "Prospect", "Lead", "Deal", "Pilot", "Customer", "Lost", "Churned"
        ]
    );
    client
        .upsert_customers(complete([upsert(vec![customer("a", "Pilot")])]))
        .await
        .unwrap();
    let request = UpsertStagesRequest {
        stages: vec![
            stage("A", 1, StageCategory::Lost),
            stage("B", 2, StageCategory::Unspecified),
        ],
    };
    let status = client.upsert_stages(request).await.unwrap_err();
    assert_eq!(
        status.message(),
        "stages[1].category: give one of OPEN, CUSTOMER, LOST, CHURNED"
    );
    assert_eq!(
        client
            .list_stages(ListStagesRequest {})
            .await
            .unwrap()
            .into_inner()
            .stages
            .len(),
        7
    );
}
