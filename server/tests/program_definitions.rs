//! docs/METRICS.md is what the definitions say.

use overlap_server::program::definitions;

/// K-35: one place for definitions. `OVERLAP_BLESS=1` rewrites the page.
#[test]
fn k35_the_metrics_page_is_up_to_date() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
    let page = definitions::markdown();
    if std::env::var_os("OVERLAP_BLESS").is_some() {
        std::fs::write(&path, page).expect("written");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/METRICS.md is out of date: OVERLAP_BLESS=1 cargo test -p overlap-server --test program_definitions"
    );
}
