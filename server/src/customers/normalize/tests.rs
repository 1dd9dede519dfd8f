use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::{lists, *};

/// The lines of a test-data file as values separated by tabs.
macro_rules! vectors {
    ($name:literal) => {
        include_str!(concat!("../../../tests/data/customers/", $name))
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.split('\t').collect::<Vec<_>>())
    };
}

fn region(code: &str) -> Option<Region> {
    Region::parse(code, "region").unwrap()
}

/// What a vector expects: a key, or an outcome's name in angle brackets.
fn shown(result: Result<Cow<'_, str>, Outcome>) -> String {
    result.map_or_else(|outcome| format!("<{}>", outcome.name()), Cow::into_owned)
}

#[test]
fn our_own_vectors() {
    let mut count = 0;
    for vector in vectors!("normalisation.tsv") {
        let [kind, code, raw, expected] = vector[..] else {
            panic!("{vector:?}")
        };
        let key_type = KeyType::ALL
            .into_iter()
            .find(|key_type| key_type.name() == kind)
            .unwrap();
        let raw = raw
            .replace("\\u{a0}", "\u{a0}")
            .replace("\\u{200b}", "\u{200b}")
            .replace("\\u{301}", "\u{301}");
        assert_eq!(
            shown(normalize(key_type, &raw, region(code))),
            expected,
            "{vector:?}"
        );
        count += 1;
    }
    assert!(count >= 80, "{count} vectors");
}

#[test]
fn z04_the_public_suffix_lists_own_cases() {
    let mut count = 0;
    for vector in vectors!("public_suffix.tsv") {
        let [host, expected] = vector[..] else {
            panic!("{vector:?}")
        };
        // The list's cases compare in the form they are written in; ours is ASCII.
        let ascii = |host: &str| domain::to_ascii(host).unwrap().into_owned();
        let expected = (expected != "null").then(|| ascii(expected));
        assert_eq!(
            domain::normalize(host).ok().map(Cow::into_owned),
            expected,
            "{host}"
        );
        count += 1;
    }
    assert_eq!(count, 77);
}

#[test]
fn uts46_cases() {
    let mut count = 0;
    for vector in vectors!("idna.tsv") {
        let [source, expected] = vector[..] else {
            panic!("{vector:?}")
        };
        let found = domain::to_ascii(source);
        if expected == "error" {
            assert!(found.is_err(), "{source}: {found:?}");
        } else {
            assert_eq!(found.as_deref(), Ok(expected), "{source}");
        }
        count += 1;
    }
    assert!(count > 250, "{count} vectors");
}

#[test]
fn libphonenumbers_example_numbers() {
    let mut count = 0;
    for vector in vectors!("phone_examples.tsv") {
        let [code, raw, expected] = vector[..] else {
            panic!("{vector:?}")
        };
        assert_eq!(
            shown(normalize(KeyType::Phone, raw, region(code))),
            expected,
            "{vector:?}"
        );
        count += 1;
    }
    assert!(count > 700, "{count} vectors");
}

#[test]
fn numbers_as_they_are_dialled_within_a_region() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for vector in vectors!("phone_national.tsv") {
        let [code, raw, expected] = vector[..] else {
            panic!("{vector:?}")
        };
        let found = shown(normalize(KeyType::Phone, raw, region(code)));
        if found != expected {
            wrong.push(format!("{code} {raw}: {found}, not {expected}"));
        }
        count += 1;
    }
    assert_eq!(wrong, [""; 0]);
    assert!(count > 700, "{count} vectors");
}

#[test]
fn z04_lists_are_sorted_and_normalised() {
    for (list, least) in [(lists::FREE_MAIL, 500), (lists::DISPOSABLE, 10_000)] {
        let entries: Vec<&str> = lists::entries(list).collect();
        assert!(entries.len() >= least);
        assert!(
            entries.is_sorted_by(|left, right| left < right),
            "sorted, without duplicates"
        );
        for entry in entries {
            assert_eq!(domain::to_ascii(entry), Ok(Cow::Borrowed(entry)));
        }
    }
    let both: Vec<&str> = lists::entries(lists::FREE_MAIL)
        .filter(|entry| lists::entries(lists::DISPOSABLE).any(|other| other == *entry))
        .collect();
    assert_eq!(both, [""; 0], "on both lists");
}

#[test]
fn z04_free_mail_and_disposable_domains_are_not_keys() {
    for (list, outcome) in [
        (lists::FREE_MAIL, Outcome::FreeMailDomain),
        (lists::DISPOSABLE, Outcome::DisposableDomain),
    ] {
        for entry in lists::entries(list) {
            for host in [
                entry.to_owned(),
                format!("https://mx.{}/", entry.to_uppercase()),
            ] {
                let found = normalize(KeyType::Domain, &host, None);
                // An entry may itself be a public suffix by now, under which hosts are registrable but still listed.
                assert!(
                    found == Err(outcome) || found == Err(Outcome::PublicSuffix),
                    "{host}: {found:?}"
                );
            }
            assert!(domain_of_email(&format!("someone@{entry}")).is_err());
        }
    }
}

/// What the keys depend on. A change here changes keys: raise [`NORMALIZER_VERSION`] and, for the list, name the new one.
#[test]
fn the_versions_stand_for_what_is_built_in() {
    let lock = include_str!("../../../../Cargo.lock");
    let version = |name: &str| {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let versions: Vec<&str> = lock
            .match_indices(&entry)
            .map(|(at, _)| lock[at + entry.len()..].split('"').next().unwrap())
            .collect();
        versions.join(" ")
    };
    assert_eq!(SUFFIX_LIST_VERSION, format!("psl {}", version("psl")));
    assert_eq!(version("phonenumber"), "0.3.10+9.0.33");
    assert_eq!(version("idna"), "1.1.0");
    assert_eq!(version("unicode-normalization"), "0.1.26");
    let hash = |list: &str| hex::encode(&Sha256::digest(list)[..8]);
    assert_eq!(hash(lists::FREE_MAIL), "a7088e33c8d2ded4");
    assert_eq!(hash(lists::DISPOSABLE), "d3f44fc4ad35490a");
    assert_eq!(NORMALIZER_VERSION, 2);
}

#[test]
fn a_region_is_an_iso_code() {
    assert_eq!(region(""), None);
    assert_eq!(region("de").unwrap().code(), "DE");
    assert_eq!(
        Region::parse("Germany", "default_region")
            .unwrap_err()
            .message(),
        "default_region: \"Germany\" is not an ISO 3166-1 alpha-2 region that has phone numbers, such as DE or US"
    );
}

/// docs/NORMALISATION.md lists every outcome with its explanation, and the versions.
#[test]
fn the_document_is_up_to_date() {
    let document = include_str!("../../../../docs/NORMALISATION.md");
    for outcome in Outcome::ALL {
        let line = format!("| `{}` | {} |", outcome.name(), outcome.explanation());
        assert!(document.contains(&line), "{line}");
    }
    assert!(document.contains(&format!("now `{SUFFIX_LIST_VERSION}`")));
    assert!(document.contains(&format!("now {NORMALIZER_VERSION})")));
}

#[test]
fn outcomes_have_distinct_codes_and_names() {
    for &outcome in Outcome::ALL {
        assert_eq!(Outcome::from_code(outcome.code()), Some(outcome));
        assert!(outcome.code() < 32, "five bits in storage");
        assert_eq!(
            Outcome::ALL
                .iter()
                .filter(|other| other.name() == outcome.name())
                .count(),
            1
        );
    }
}

/// The check of phone numbers agrees with the library's own, apart from the library's matching of prefixes.
#[test]
fn phone_numbers_are_valid_as_the_library_says() {
    for vector in vectors!("phone_examples.tsv").step_by(3) {
        for change in ["", "0", "9"] {
            let raw = format!("{}{change}", vector[1]);
            let Ok(number) = phonenumber::parse(
                region(vector[0]).map(|region| region.code().parse().unwrap()),
                &raw,
            ) else {
                continue;
            };
            let found = normalize(KeyType::Phone, &raw, region(vector[0]));
            if found.is_ok() {
                assert!(phonenumber::is_valid(&number), "{raw}");
            }
        }
    }
}

fn idempotent(key_type: KeyType, raw: &str, own: Option<Region>) -> Result<(), TestCaseError> {
    if let Ok(key) = normalize(key_type, raw, own) {
        // A key is a key for a node of any region.
        for other in [own, None, region("KZ"), region("US")] {
            let again = normalize(key_type, &key, other);
            prop_assert_eq!(
                again,
                Ok(Cow::Borrowed(key.as_ref())),
                "{:?} {:?}",
                raw,
                other
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn normalising_twice_changes_nothing(raw in any::<String>(), region_code in prop::sample::select(vec!["", "US", "DE", "IT"])) {
        for key_type in KeyType::ALL {
            idempotent(key_type, &raw, region(region_code))?;
        }
    }

    #[test]
    fn emails_are_idempotent(local in "[\\PC]{1,8}", host in "[a-zA-Zß-ž一-三.。-]{1,12}\\.(com|de|example|рф)") {
        idempotent(KeyType::Email, &format!("{local}@{host}"), None)?;
        idempotent(KeyType::Domain, &format!("https://u:p@{host}:80/{local}"), None)?;
    }

    #[test]
    fn phones_are_idempotent(raw in "[+]?[0-9]{2,5}[0-9(). x-]{3,14}", region_code in prop::sample::select(vec!["", "US", "DE", "IT", "MX", "AR", "BR"])) {
        idempotent(KeyType::Phone, &raw, region(region_code))?;
    }

    #[test]
    fn case_and_space_do_not_matter(local in "[a-z0-9+]{1,10}", host in "[a-z]{1,10}") {
        let plain = format!("{local}@{host}.example");
        let noisy = format!(" \u{a0}<{}>\t", plain.to_uppercase());
        prop_assert_eq!(normalize(KeyType::Email, &plain, None), normalize(KeyType::Email, &noisy, None));
    }
}

/// Every character's lower case is its own, so that lower-casing twice changes nothing.
#[test]
fn lower_case_is_stable() {
    for character in '\0'..=char::MAX {
        let text = character.to_string();
        let once = text::lower(&text);
        assert_eq!(text::lower(&once), once, "{character:?}");
    }
}
