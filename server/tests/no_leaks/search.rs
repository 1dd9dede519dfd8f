//! Finds a secret in whatever form it is written.

use super::*;

/// The forms in which a secret might show.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![
        secret.to_vec(),
        hex::encode(secret).into_bytes(),
        hex::encode_upper(secret).into_bytes(),
        // As `Debug` writes bytes.
        format!("{secret:?}")
            .trim_matches(['[', ']'])
            .as_bytes()
            .to_vec(),
        secret.escape_ascii().to_string().into_bytes(),
    ];
    for shift in 0..3 {
        let padded = [&[0; 3][..shift], secret].concat();
        let encoded = STANDARD_NO_PAD.encode(padded);
        // Characters that depend on the neighbours are cut off.
        let inner = &encoded[if shift == 0 { 0 } else { shift + 1 }..encoded.len() - 2];
        forms.push(inner.as_bytes().to_vec());
        forms.push(inner.replace('+', "-").replace('/', "_").into_bytes());
    }
    forms.dedup();
    forms
}

/// The names of the secrets that show in `place`: one pass, in which a table tells where a form may begin.
pub(super) fn found(place: &[u8], secrets: &[(String, Vec<u8>)]) -> Vec<String> {
    const BITS: u32 = 24;
    let head = |bytes: &[u8]| {
        let (head, _) = bytes.split_first_chunk::<8>().expect("forms are longer");
        u64::from_le_bytes(*head)
    };
    let slot = |head: u64| (head.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS)) as usize;
    let mut may_begin = vec![false; 1 << BITS];
    let mut by_head = HashMap::<u64, Vec<(usize, Vec<u8>)>>::new();
    for (index, (_, secret)) in secrets.iter().enumerate() {
        for form in forms(secret) {
            let head = head(&form);
            may_begin[slot(head)] = true;
            by_head.entry(head).or_default().push((index, form));
        }
    }
    let mut seen = BTreeSet::new();
    for (at, window) in place.windows(8).enumerate() {
        let head = head(window);
        if may_begin[slot(head)] {
            for (index, form) in by_head.get(&head).into_iter().flatten() {
                if place[at..].starts_with(form) {
                    seen.insert(*index);
                }
            }
        }
    }
    seen.into_iter()
        .map(|index| secrets[index].0.clone())
        .collect()
}

#[test]
fn the_search_finds_every_form() {
    let secret = b"ann.secret@acme-corp.example".to_vec();
    let secrets = [("it".to_owned(), secret.clone())];
    let around = |text: String| format!("before {text} after").into_bytes();
    for place in [
        around(String::from_utf8(secret.clone()).unwrap()),
        around(hex::encode(&secret)),
        around(hex::encode_upper(&secret)),
        around(format!("{secret:?}")),
        around(STANDARD_NO_PAD.encode([b"x".as_slice(), &secret, b"yz"].concat())),
        around(STANDARD_NO_PAD.encode([b"xx".as_slice(), &secret].concat())),
        around(STANDARD_NO_PAD.encode([b"xxx".as_slice(), &secret, b"y"].concat())),
    ] {
        assert_eq!(found(&place, &secrets), ["it"], "{}", place.escape_ascii());
    }
    assert!(found(b"ann.secret@acme-corp", &secrets).is_empty());
}
