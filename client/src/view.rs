//! The JSON shapes that are no type of this crate: a contract, whoever prints them.
//!
//! Everything else is printed as the types of this crate serialise themselves: the keys are the names of the .proto files,
//! an enum's value its name without the prefix, a time RFC 3339, a duration as in the protobuf mapping ("90s"), and what is
//! not known is null.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::{KeyType, Matrix, SharedCustomer};

/// A list under the name of the API's answer, e.g. `{"metrics": [...]}`; a contract.
pub struct Named<'a, T> {
    name: &'static str,
    list: &'a [T],
}

impl<'a, T> Named<'a, T> {
    /// The list under its name.
    #[must_use]
    pub const fn new(name: &'static str, list: &'a [T]) -> Self {
        Self { name, list }
    }
}

impl<T: Serialize> Serialize for Named<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.name, self.list)?;
        map.end()
    }
}

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
