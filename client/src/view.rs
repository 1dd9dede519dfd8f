//! The JSON shapes of the matrix and of the list: a contract, whoever prints them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{KeyType, Matrix, SharedCustomer};

/// The matrix as programs read it; a contract.
#[derive(Serialize)]
pub struct MatrixView<'a> {
    partner: &'a str,
    run: &'a str,
    mine: Vec<&'a str>,
    theirs: Vec<&'a str>,
    cells: Vec<CellView<'a>>,
    shared_customers: Option<u64>,
}

/// A cell as programs read it; a contract.
#[derive(Serialize)]
pub struct CellView<'a> {
    mine: &'a str,
    theirs: &'a str,
    state: &'static str,
    count: Option<u64>,
}

/// A shared customer as programs read it in the list; a contract.
#[derive(Serialize)]
pub struct SharedView<'a> {
    id: &'a str,
    ids: &'a [String],
    name: &'a str,
    mine: &'a str,
    theirs: &'a str,
    matched_on: &'a [KeyType],
    #[serde(rename = "ref")]
    reference: &'a str,
    partner_fields: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a SharedCustomer> for SharedView<'a> {
    fn from(customer: &'a SharedCustomer) -> Self {
        Self {
            id: &customer.id,
            ids: &customer.ids,
            name: &customer.name,
            mine: &customer.mine,
            theirs: &customer.theirs,
            matched_on: &customer.matched_on,
            reference: &customer.reference,
            partner_fields: &customer.partner_fields,
        }
    }
}

impl<'a> From<&'a Matrix> for MatrixView<'a> {
    fn from(matrix: &'a Matrix) -> Self {
        Self {
            partner: &matrix.partner,
            run: &matrix.run,
            mine: matrix.mine.iter().map(|stage| &*stage.id).collect(),
            theirs: matrix.theirs.iter().map(|stage| &*stage.id).collect(),
            cells: matrix
                .cells
                .iter()
                .map(|cell| CellView {
                    mine: &cell.mine,
                    theirs: &cell.theirs,
                    state: cell.state.name(),
                    count: cell.count,
                })
                .collect(),
            shared_customers: matrix.shared_customers,
        }
    }
}
